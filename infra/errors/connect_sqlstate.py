"""The SQLSTATE of a refused connection. The server's message may be in any language, so it decides nothing.

libpq does not report this SQLSTATE, but its protocol trace contains it: the connection is attempted once more with the
trace enabled. https://github.com/psycopg/psycopg/issues/1188
"""

from __future__ import annotations

import os
import re
import select
import socket
import sys
import time

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.errors.exceptions import AcceptsAgain, PasswordMissing, UnknownHost

# How libpq traces an error: fields by their letters, C is the SQLSTATE.
_REFUSAL = re.compile(rb'\tErrorResponse\t[^\n]*? C "([0-9A-Z]{5})"')
_TIME_LIMIT_SECONDS = 5.0
_CONNECTION_FAILURE = "08006"


def with_sqlstate(error: psycopg.OperationalError, url: str, connect_timeout: float) -> psycopg.OperationalError:
    """`error` of a failed connection, with the server's SQLSTATE if the server sent one.

    `url` may contain a password. `connect_timeout` in seconds; at most 5 are used.
    """
    if error.sqlstate is not None or isinstance(error, psycopg.errors.ConnectionTimeout):
        return error
    state = _sqlstate(url, min(connect_timeout, _TIME_LIMIT_SECONDS))
    if state is None:
        needs_password = error.pgconn is not None and error.pgconn.needs_password
        kind = UnknownHost if _unknown_host(url) else PasswordMissing if needs_password else None
        return kind(str(error)) if kind else error
    found = (AcceptsAgain if state == _CONNECTION_FAILURE else psycopg.OperationalError)(str(error))
    found.sqlstate = state
    return found


def _sqlstate(url: str, seconds: float) -> str | None:
    if sys.platform != "linux":  # psycopg supports traces there only
        return None
    # In memory: with some authentication methods the trace contains the password.
    trace = os.memfd_create("spillway-connect")
    try:
        connection = pq.PGconn.connect_start(make_conninfo(url, client_encoding="UTF8").encode())
        try:
            connection.trace(trace)
            connected = _connect(connection, time.monotonic() + seconds)
            connection.untrace()
        finally:
            connection.finish()
        os.lseek(trace, 0, os.SEEK_SET)
        with os.fdopen(os.dup(trace), "rb") as file:
            states = _REFUSAL.findall(file.read())
    except (psycopg.Error, OSError):
        return None
    finally:
        os.close(trace)
    if connected:
        return _CONNECTION_FAILURE
    return states[-1].decode() if states else None


def _connect(connection: pq.abc.PGconn, deadline: float) -> bool:
    """Try to connect until `deadline`. Returns whether the server accepted the connection."""
    if connection.status == pq.ConnStatus.BAD:
        return False
    status = pq.PollingStatus.WRITING
    while status in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        sockets = [connection.socket]
        reading = status == pq.PollingStatus.READING
        select.select(sockets if reading else [], [] if reading else sockets, [], remaining)
        status = pq.PollingStatus(connection.connect_poll())
    return status == pq.PollingStatus.OK


def _unknown_host(url: str) -> bool:
    """Whether no host of the URL resolves, decided by the resolver's error number and not by its message."""
    options = conninfo_to_dict(url)
    if options.get("hostaddr"):  # nobody resolves the name
        return False
    hosts = str(options.get("host") or "").split(",")
    for host in hosts:
        if not host or host.startswith(("/", "@")):
            return False
        try:
            socket.getaddrinfo(host, None)
        except socket.gaierror as error:
            if error.errno != socket.EAI_NONAME:
                return False
        else:
            return False
    return True
