"""Look at both servers before anything is touched: what cannot work is said now, what is unwise is a warning."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import redis

from infra.errors import Terminal
from infra.table import events_name

_MIN_REDIS = (7, 0)  # entries-added, without which a loss cannot be seen
_MIN_POSTGRES = 150000
_MIN_TIMESCALE = (2, 18, 1)  # 2.17 loses rows in INSERT ... ON CONFLICT: timescaledb issue 7672
_MAX_SKEW_SECONDS = 60

_SERVER = """
    SELECT current_setting('server_version_num')::int,
           (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
           to_regclass(%s) IS NOT NULL AND to_regclass('spillway.files') IS NOT NULL,
           extract(epoch FROM clock_timestamp())::float8"""


def check_servers(client: redis.Redis, connection: psycopg.Connection) -> list[str]:
    """Warnings about the two servers. Raises `Terminal` for a server that Spillway cannot work with."""
    info: Any = client.info()
    version = tuple(int(part) for part in info["redis_version"].split(".")[:2])
    if version < _MIN_REDIS:
        raise Terminal(f"Redis is {info['redis_version']}, expected 7.0 or later; upgrade it")
    row = connection.execute(_SERVER, [events_name()]).fetchone()
    assert row is not None  # a SELECT without FROM has one row
    postgres, timescale, schema, now = row
    if postgres < _MIN_POSTGRES:
        raise Terminal(f"PostgreSQL is {postgres // 10000}, expected 15 or later; upgrade it")
    if not schema or timescale is None:
        raise Terminal("the database has no Spillway tables; apply the schema: spillway schema")
    if tuple(int(part) for part in timescale.split("-")[0].split(".")) < _MIN_TIMESCALE:
        raise Terminal(
            f"TimescaleDB is {timescale}, expected 2.18.1 or later (2.17 can lose rows silently, timescaledb issue"
            " 7672); ALTER EXTENSION timescaledb UPDATE"
        )
    return _warnings(info, _snapshots(client), now)


def _snapshots(client: redis.Redis) -> bool:
    """Whether Redis saves itself now and then; taken for granted where it does not say, as managed ones do not."""
    try:
        found: Any = client.config_get("save")
    except redis.exceptions.ResponseError:
        return True
    return bool(found.get("save", "unknown"))


def _warnings(info: dict[str, Any], snapshots: bool, postgres_now: float) -> list[str]:
    warnings = []
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        warnings.append(f"Redis evicts ({policy}): a whole stream can vanish; set maxmemory-policy noeviction")
    if not info.get("aof_enabled") and not snapshots:
        warnings.append(
            "Redis keeps nothing on disk: entries not yet drained are lost when it stops; set appendonly yes"
        )
    skew = abs(time.time() - postgres_now)
    if skew > _MAX_SKEW_SECONDS:
        warnings.append(f"the clocks of this machine and of PostgreSQL differ by {skew:.0f} s")
    return warnings
