"""The servers that Sentinels name, asked again for each new connection: after a failover they are others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis
from redis import exceptions
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool, SentinelManagedConnection

from infra.connections.redis_connection import TlsConnection, UnsupportedServer, connect, info_of
from infra.urls import RedisUrl

# What a connection to a Sentinel has in common with one to the Redis that it watches.
_COMMON = ("socket_", "ssl_", "retry", "protocol", "driver_info", "client_name")


def watched_client(url: RedisUrl, options: Mapping[str, Any], replica: bool = False) -> redis.Redis:
    """A client of the primary of `url.service`, or of one of its replicas.

    Its first command asks the Sentinels, and raises `MasterNotFoundError` (a `ConnectionError`) while they name no
    primary, `UnsupportedServer` if none of them watches the service, and `AuthenticationError` if one refuses user and
    password.
    """
    for_sentinels = {name: value for name, value in options.items() if name.startswith(_COMMON)} | {"ssl": url.tls}
    sentinels = _Sentinels(  # type: ignore[no-untyped-call]
        url.sentinels, sentinel_kwargs=for_sentinels | dict(url.sentinel_options)
    )
    pool = SentinelConnectionPool(
        url.service,
        sentinels,
        connection_class=_WatchedTls if url.tls else _Watched,
        redis_connect_func=connect if replica else _connect_to_primary,
        is_master=not replica,
        **options,
    )
    return redis.Redis.from_pool(pool)


class _Sentinels(Sentinel):
    """Sentinels that tell a service without a primary at the moment from one that they have never watched."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Host and port of the primary."""
        try:
            found: tuple[str, int] = super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError as error:
            watched = self._watched()
            if watched and service_name not in watched:
                names = ", ".join(map(repr, sorted(watched)))
                raise UnsupportedServer(
                    f"the Sentinels watch no service {service_name!r}, only {names}; name one of these in"
                    " SPILLWAY_REDIS_URL (redis+sentinel://host:26379/service)"
                ) from error
            raise
        return found

    def _watched(self) -> set[str]:
        """The services that any Sentinel watches; empty if none answers."""
        for sentinel in self.sentinels:
            try:
                masters: Any = sentinel.sentinel_masters()
                return set(masters)
            except exceptions.AuthenticationError:
                raise
            except (exceptions.ConnectionError, exceptions.TimeoutError):
                continue
        return set()


class _Watched(SentinelManagedConnection):
    """A connection to the primary or a replica."""


class _WatchedTls(SentinelManagedConnection, TlsConnection):
    """The same with TLS."""


def _connect_to_primary(connection: Any) -> None:
    """Set up a connection, and refuse a server that has become a replica: the Sentinels may not know yet."""
    connect(connection)
    if info_of(connection, "replication").get("role") == "slave":
        raise exceptions.ConnectionError("the Sentinels name it as the primary, but it is a replica at the moment")
