"""Redis clients: of one server, of a Cluster, or of the primary that Sentinels name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from infra.connections.redis_cluster import ReplicaRedis, RoutedRedis
from infra.connections.redis_connection import TlsConnection, UnsupportedServer, connect
from infra.connections.redis_sentinel import watched_client
from infra.urls import read_redis_url

_FILE_OPTIONS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")


def open_redis(url: str, timeout: float, connect_timeout: float, replica: bool = False) -> redis.Redis:
    """A client that returns bytes and tries each command once: steps are retried, not commands. Timeouts in seconds.

    It connects at its first command, which raises `UnsupportedServer` for an old version, or a Sentinel instead of
    the Redis that it watches. If the server is a node of a Cluster, each command goes to the node that has its key.
    `replica`: to a replica of it, and behind Sentinels to a replica of the primary.
    Raises `UnreadableUrl` for an invalid URL, and `UnsupportedServer` for a TLS file that does not exist.
    """
    found = read_redis_url(url)
    for name in _FILE_OPTIONS:
        if name in found.options and not Path(found.options[name]).exists():
            raise UnsupportedServer(f"the {name} of SPILLWAY_REDIS_URL does not exist; name a file on this machine")
    options: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,
        "client_name": "spillway",
        "socket_timeout": timeout,
        "socket_connect_timeout": connect_timeout,
    }
    options |= found.options
    if found.socket:
        kind: Any = redis.UnixDomainSocketConnection
    else:
        kind = TlsConnection if found.tls else redis.Connection
        options["socket_keepalive"] = True
    if found.sentinels:
        return watched_client(found, options, replica)
    routed = ReplicaRedis if replica else RoutedRedis
    return routed.from_pool(redis.ConnectionPool(connection_class=kind, redis_connect_func=connect, **options))


def primary_address(url: str, timeout: float) -> tuple[str, int]:
    """Host and port of the primary that the Sentinels of a URL name. Raises `RedisError`."""
    with open_redis(url, timeout, timeout) as client:
        pool: Any = client.connection_pool
        found: tuple[str, int] = pool.get_master_address()
        return found
