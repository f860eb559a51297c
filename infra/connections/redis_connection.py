"""Connections to Redis. Each new one first checks the server: one that Spillway cannot work with is refused before
anything is read or written, by every command.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any

import redis
from redis import exceptions

from infra.versions import unsupported_redis


class UnsupportedServer(exceptions.RedisError):
    """A server that Spillway cannot work with. Its text ends with the next step."""


class ClusterNode(exceptions.RedisError):
    """The server that a client has connected to is a node of a Redis Cluster, and has only a part of the keys."""


class TlsConnection(redis.SSLConnection):
    """A connection that limits the time of the handshake, and detects a server that does not speak TLS.

    A Redis without TLS does not answer a handshake: it waits for the rest of a command.
    """

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> Any:
        try:
            sock.settimeout(self.socket_connect_timeout)
            wrapped = super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        except TimeoutError:
            if _answers_without_tls(self.host, self.port):
                raise UnsupportedServer(
                    "this port does not speak TLS; write redis:// in SPILLWAY_REDIS_URL, or name the TLS port"
                ) from None
            raise
        wrapped.settimeout(self.socket_timeout)
        return wrapped

    def alert(self) -> ssl.SSLError | None:
        """The TLS alert with which the server closes a connection just after its handshake; None if there is none.

        With TLS 1.3 the server rejects a client's certificate at that point. A client that has already written loses
        the alert, so this connection writes nothing.
        """
        try:
            with self._connect() as silent:  # type: ignore[no-untyped-call]
                silent.settimeout(2)
                silent.recv(1)
        except ssl.SSLError as error:
            return error
        except (OSError, exceptions.RedisError):
            pass
        return None


def _answers_without_tls(host: str, port: int) -> bool:
    """Whether a server answers PING there without TLS."""
    try:
        with socket.create_connection((host, port), timeout=2) as plain:
            plain.sendall(b"PING\r\n")
            return plain.recv(1) in (b"+", b"-")
    except OSError:
        return False


def connect(connection: Any) -> None:
    """Set up a new connection as redis-py does, then check the server."""
    try:
        connection.on_connect()
    except exceptions.AuthenticationError:
        raise
    except exceptions.ConnectionError:
        if isinstance(connection, TlsConnection) and (alert := connection.alert()) is not None:
            raise exceptions.ConnectionError(str(alert)) from alert
        raise
    except exceptions.ResponseError:  # a Cluster node refuses SELECT; name the Cluster as the reason
        _check_server(connection)
        raise
    _check_server(connection)


def connect_to_node(connection: Any) -> None:
    """The same for a node of a Cluster."""
    with suppress(ClusterNode):
        connect(connection)


def connect_to_replica_node(connection: Any) -> None:
    """The same for a replica of a Cluster: without READONLY it sends its clients to the primary."""
    connect_to_node(connection)
    connection.send_command("READONLY", check_health=False)
    connection.read_response()


def _check_server(connection: Any) -> None:
    """Raise `UnsupportedServer`, or `ClusterNode`."""
    found = info_of(connection, "server")
    version, mode = found.get("redis_version"), found.get("redis_mode", "standalone")
    if version is not None and (reason := unsupported_redis(version, mode)):
        raise UnsupportedServer(reason)
    if mode == "cluster" and connection.db:
        raise UnsupportedServer(
            f"it is a Redis Cluster, which has only the database 0, expected no other number, found {connection.db};"
            " nothing was read or written; remove the number from SPILLWAY_REDIS_URL"
        )
    if mode == "cluster":
        raise ClusterNode


def info_of(connection: Any, section: str) -> dict[str, str]:
    """A section of INFO, before the client uses the connection; empty if the user has no right to read it."""
    connection.send_command("INFO", section, check_health=False)
    try:
        reply = connection.read_response()
    except (exceptions.NoPermissionError, exceptions.ResponseError):
        return {}  # a producer may lack the right; the preflight of a drain checks what it needs
    return dict(line.partition(":")[::2] for line in reply.decode(errors="replace").split("\r\n") if ":" in line)
