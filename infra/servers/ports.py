"""Checks of the servers' ports."""

from __future__ import annotations

import errno
import socket
import time
from contextlib import suppress

import psutil

from infra.errors.exceptions import Terminal
from infra.servers.engine import Service

VARIABLE: dict[Service, str] = {"redis": "SPILLWAY_REDIS_PORT", "timescaledb": "SPILLWAY_POSTGRES_PORT"}

_DYING_SECONDS = 2


def require_free_port(service: Service, port: int) -> None:
    """Raise `Terminal` with the holder and the next step if nothing can listen on 127.0.0.1:`port`.

    A server that was just killed may still hold its port until all its threads have ended: waits up to two seconds.
    """
    deadline = time.monotonic() + _DYING_SECONDS
    while not _can_bind(service, port):
        holder = port_holder(port)
        if holder or time.monotonic() > deadline:
            raise Terminal(
                f"port {port} for {service} is in use by {holder or 'another process'};"
                f" stop that process, or set {VARIABLE[service]} to a free port"
            )
        time.sleep(0.02)


def _can_bind(service: Service, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: a port whose last connections are in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            raise Terminal(
                f"port {port} for {service} is reserved for root; set {VARIABLE[service]} to one above 1023"
            ) from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def require_same_port(service: Service, port: int, configured: int, instance: str) -> None:
    """Raise `Terminal` with the next step if a running server of `instance` has another port than the settings."""
    if port != configured:
        raise Terminal(
            f"{service} of instance {instance} runs on port {port}, not {configured};"
            f" run `spillway down` first, or set {VARIABLE[service]}={port}"
        )


def port_holder(port: int) -> str | None:
    """`name (pid N)` of the process that listens on `port`; None if there is none, or if this user may not see it."""
    with suppress(psutil.Error):  # the process ended, or belongs to another user
        for found in psutil.net_connections("tcp"):
            listens = found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port
            if listens and found.pid is not None:
                return f"{psutil.Process(found.pid).name()} (pid {found.pid})"
    return None


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
