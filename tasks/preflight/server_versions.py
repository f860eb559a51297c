"""Checks the versions and settings of both servers: what cannot work is an error, what is unwise is a warning."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import redis

from infra.connections.redis_cluster import primaries
from infra.errors.exceptions import Terminal
from infra.schema.schema_version import check_schema
from infra.timescaledb import check_catalog
from infra.versions import unsupported_database
from tasks.preflight.clocks import Clock, clock, compare_clocks

_SERVER = """
    SELECT current_setting('server_version_num')::int,
           (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
           EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb'),
           extract(epoch FROM clock_timestamp())::float8"""
_UNKNOWN = (redis.exceptions.NoPermissionError, redis.exceptions.ResponseError)  # managed servers hide some settings


def check_servers(client: redis.Redis | None, connection: psycopg.Connection) -> list[str]:
    """Warnings about the servers, or about PostgreSQL only if `client` is None.

    Raises `Terminal` for a server that Spillway cannot work with, `psycopg.Error` and `redis.RedisError`.
    """
    warnings: list[str] = []
    clocks: list[Clock] = []
    for one in primaries(client) if client is not None else []:
        more, its_clock = _ask_redis(one)
        warnings += [warning for warning in more if warning not in warnings]
        clocks += its_clock
    asked = time.time()
    row = connection.execute(_SERVER).fetchone()
    assert row is not None  # a SELECT without FROM has one row
    postgres, timescale, has_timescaledb, now = row
    clocks.insert(0, clock("PostgreSQL", now, asked, time.time()))
    if reason := unsupported_database(postgres, timescale):
        raise Terminal(f"preflight: the database: {reason}")
    if timescale is None and has_timescaledb:
        raise Terminal(
            "preflight: the server has TimescaleDB, but the database does not have the extension; nothing was read or"
            " written; run `spillway schema`"
        )
    check_schema(connection)
    return check_catalog(connection) + warnings + compare_clocks(*clocks)


def _ask_redis(client: redis.Redis) -> tuple[list[str], list[Clock]]:
    """Warnings about Redis, and its clock unless that is hidden. Raises `redis.RedisError`."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.info()
        pipeline.time()
        asked = time.time()
        info, now = pipeline.execute(raise_on_error=False)
        answered = time.time()
    if isinstance(info, Exception):
        raise info
    if isinstance(now, Exception) and not isinstance(now, _UNKNOWN):
        raise now
    clocks = [] if isinstance(now, Exception) else [clock("Redis", now[0] + now[1] / 1e6, asked, answered)]
    return _redis_warnings(info, bool(info.get("aof_enabled")) or _makes_snapshots(client)), clocks


def _makes_snapshots(client: redis.Redis) -> bool:
    """Whether Redis makes snapshots; assumed if it hides that. Raises `redis.RedisError`."""
    try:
        found: Any = client.config_get("save")
    except _UNKNOWN:
        return True
    return bool(found.get("save", "unknown"))


def _redis_warnings(info: dict[str, Any], persists: bool) -> list[str]:
    warnings = []
    if info.get("role") == "slave":
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        warnings.append(
            f"Redis is a replica of {primary}: entries that have not arrived there are not drained, progress is not"
            " published, and nothing is trimmed; set SPILLWAY_REDIS_URL to the primary"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        warnings.append(f"Redis evicts ({policy}): a whole stream can vanish; CONFIG SET maxmemory-policy noeviction")
    if not persists:
        warnings.append(
            "Redis keeps nothing on disk: entries not yet drained are lost when it stops; CONFIG SET appendonly yes"
        )
    return warnings
