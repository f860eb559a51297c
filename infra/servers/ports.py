"""Who holds a port."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from pathlib import Path

from infra.errors.exceptions import Terminal
from infra.servers.engine import Service

VARIABLE: dict[Service, str] = {"redis": "SPILLWAY_REDIS_PORT", "timescaledb": "SPILLWAY_POSTGRES_PORT"}

_DYING_SECONDS = 2
_LISTEN = "0A"  # the state column of /proc/net/tcp


def demand_free(service: Service, port: int) -> None:
    """Raise `Terminal` with the holder and the next step if 127.0.0.1:`port` cannot be listened on.

    A port that nobody listens on may still be one of a server that was just killed, whose threads have not all ended:
    that is waited for, two seconds at most.
    """
    deadline = time.monotonic() + _DYING_SECONDS
    while not _can_bind(service, port):
        found = holder(port)
        if found or time.monotonic() > deadline:
            raise Terminal(
                f"port {port} for {service} is in use by {found or 'another process'}:"
                f" stop that, or set {VARIABLE[service]} to a free port"
            )
        time.sleep(0.02)


def _can_bind(service: Service, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: a port whose last connections merely linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            raise Terminal(
                f"port {port} for {service} is for root alone: set {VARIABLE[service]} to one above 1023"
            ) from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def demand_same(service: Service, port: int, wanted: int, instance: str) -> None:
    """Raise `Terminal` with the next step if a running server of `instance` has another port than the settings."""
    if port != wanted:
        raise Terminal(
            f"{service} of instance {instance} runs on port {port}, not {wanted}:"
            f" run `spillway down` first, or set {VARIABLE[service]}={port}"
        )


def holder(port: int) -> str | None:
    """`name (pid N)` of the process that listens on `port`; None where /proc does not tell."""
    inodes = {f"socket:[{inode}]" for inode in _listening(port)}
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        # Other users' processes are closed to us, and any may end while we look.
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) in inodes:
                        return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return None


def _listening(port: int) -> list[str]:
    """The inodes of the sockets that listen on `port`."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                    found.append(columns[9])
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
