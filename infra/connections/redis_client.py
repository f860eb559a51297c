"""Redis clients. Each new connection first checks the server: one that Spillway cannot work with is refused before
anything is read or written, by every command.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from infra.urls import read_redis_url
from infra.versions import unsupported_redis

_FILE_OPTIONS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")


class UnsupportedServer(exceptions.RedisError):
    """A server that Spillway cannot work with. Its text ends with the next step."""


def open_redis(url: str, timeout: float, connect_timeout: float) -> redis.Redis:
    """A client that returns bytes and tries each command once: steps are retried, not commands. Timeouts in seconds.

    It connects at its first command, which raises `UnsupportedServer` for a node of a Cluster, a Sentinel or an old
    version. Raises `UnreadableUrl` for an invalid URL, and `UnsupportedServer` for a TLS file that does not exist.
    """
    found = read_redis_url(url)
    for name in _FILE_OPTIONS:
        if name in found.options and not Path(found.options[name]).exists():
            raise UnsupportedServer(f"the {name} of SPILLWAY_REDIS_URL does not exist; name a file on this machine")
    options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": connect_timeout} | found.options
    if found.socket:
        kind: Any = redis.UnixDomainSocketConnection
    else:
        kind = _TlsConnection if found.tls else redis.Connection
        options["socket_keepalive"] = True
    pool = redis.ConnectionPool(
        connection_class=kind,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,
        client_name="spillway",
        redis_connect_func=_connect,
        **options,
    )
    return redis.Redis.from_pool(pool)


class _TlsConnection(redis.SSLConnection):
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


def _connect(connection: Any) -> None:
    """Set up a new connection as redis-py does, then check the server."""
    try:
        connection.on_connect()
    except exceptions.AuthenticationError:
        raise
    except exceptions.ConnectionError:
        if isinstance(connection, _TlsConnection) and (alert := connection.alert()) is not None:
            raise exceptions.ConnectionError(str(alert)) from alert
        raise
    except exceptions.ResponseError:  # a Cluster node refuses SELECT; name the Cluster as the reason
        _refuse_unsupported(connection)
        raise
    _refuse_unsupported(connection)


def _refuse_unsupported(connection: Any) -> None:
    connection.send_command("INFO", "server", check_health=False)
    try:
        reply = connection.read_response()
    except (exceptions.NoPermissionError, exceptions.ResponseError):
        return  # a producer may lack the right; the preflight of a drain checks what it needs
    found = dict(line.partition(":")[::2] for line in reply.decode(errors="replace").split("\r\n") if ":" in line)
    version, mode = found.get("redis_version"), found.get("redis_mode", "standalone")
    if version is not None and (reason := unsupported_redis(version, mode)):
        raise UnsupportedServer(reason)
