"""Why PostgreSQL refused a connection, by its SQLSTATE and not by its words, which may be of any language.

libpq keeps the SQLSTATE of a refused connection to itself. Its trace of the protocol has it, so the refused connection
is tried once more with the trace switched on. https://github.com/psycopg/psycopg/issues/1188
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

from infra.errors.exceptions import PasswordMissing, UnknownHost

# As libpq writes the message: fields by their letters. C is the SQLSTATE, V the severity in English.
_REFUSAL = re.compile(rb'\tErrorResponse\t[^\n]*? C "([0-9A-Z]{5})"')
_LONGEST_SECONDS = 5.0
_AFTER_ALL = "08006"  # connection failure: the second attempt came through


def with_sqlstate(error: psycopg.OperationalError, url: str, connect_timeout: float) -> psycopg.OperationalError:
    """`error` of a failed connection with the server's SQLSTATE, if the server gave one; otherwise as it is."""
    if error.sqlstate is not None or isinstance(error, psycopg.errors.ConnectionTimeout):
        return error
    state = _sqlstate(url, min(connect_timeout, _LONGEST_SECONDS))
    if state is None:
        needs_password = error.pgconn is not None and error.pgconn.needs_password
        kind = UnknownHost if _unknown_host(url) else PasswordMissing if needs_password else None
        return kind(str(error)) if kind else error
    found = psycopg.OperationalError(str(error))
    found.sqlstate = state
    return found


def _sqlstate(url: str, seconds: float) -> str | None:
    if sys.platform != "linux":  # psycopg traces there only
        return None
    # In memory: the trace of some ways to authenticate has the password.
    trace = os.memfd_create("spillway-connect")
    try:
        connection = pq.PGconn.connect_start(make_conninfo(url, client_encoding="UTF8").encode())
        try:
            connection.trace(trace)
            came_through = _connect(connection, time.monotonic() + seconds)
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
    if came_through:
        return _AFTER_ALL
    return states[-1].decode() if states else None


def _connect(connection: pq.abc.PGconn, deadline: float) -> bool:
    """Connect as far as it goes until `deadline`; whether the server let us in."""
    if connection.status == pq.ConnStatus.BAD:
        return False
    status = pq.PollingStatus.WRITING
    while status in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        sockets = [connection.socket]
        reading = status == pq.PollingStatus.READING
        select.select(sockets if reading else [], [] if reading else sockets, [], left)
        status = pq.PollingStatus(connection.connect_poll())
    return status == pq.PollingStatus.OK


def _unknown_host(url: str) -> bool:
    """Whether no host of the URL has an address, for good. By the resolver's number and not by its words."""
    hosts = str(conninfo_to_dict(url).get("host") or "").split(",")
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
