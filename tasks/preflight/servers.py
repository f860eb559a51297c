"""Look at both servers before anything is touched: what cannot work is said now, what is unwise is a warning."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import redis

from infra.errors import Terminal
from infra.table import events_name
from infra.timescaledb import check_catalog
from infra.versions import unfit_database

_MAX_SKEW_SECONDS = 60

_SERVER = """
    SELECT current_setting('server_version_num')::int,
           (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
           to_regclass(%s) IS NOT NULL AND to_regclass('spillway.instance') IS NOT NULL,
           extract(epoch FROM clock_timestamp())::float8"""


def check_servers(client: redis.Redis | None, connection: psycopg.Connection) -> list[str]:
    """Warnings about the servers, about PostgreSQL alone if `client` is None.

    Raises `Terminal` for a server that Spillway cannot work with.
    """
    info: Any = client.info() if client is not None else None
    row = connection.execute(_SERVER, [events_name()]).fetchone()
    assert row is not None  # a SELECT without FROM has one row
    postgres, timescale, schema, now = row
    if unfit := unfit_database(postgres, timescale):
        raise Terminal(f"the database: {unfit}")
    if not schema or timescale is None:
        raise Terminal("the database has no Spillway tables; apply the schema: spillway schema")
    warnings = check_catalog(connection)
    if client is not None:
        warnings += _redis_warnings(info, _snapshots(client))
    return warnings + _clock_warnings(now)


def _snapshots(client: redis.Redis) -> bool:
    """Whether Redis saves itself now and then; taken for granted where it does not say, as managed ones do not."""
    try:
        found: Any = client.config_get("save")
    except redis.exceptions.ResponseError:
        return True
    return bool(found.get("save", "unknown"))


def _redis_warnings(info: dict[str, Any], snapshots: bool) -> list[str]:
    warnings = []
    if info.get("role") == "slave":
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        warnings.append(
            f"Redis is a replica of {primary}: entries that have not reached it are not seen, progress is not published"
            " and nothing is trimmed; point SPILLWAY_REDIS_URL at the primary"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        warnings.append(f"Redis evicts ({policy}): a whole stream can vanish; set maxmemory-policy noeviction")
    if not info.get("aof_enabled") and not snapshots:
        warnings.append(
            "Redis keeps nothing on disk: entries not yet drained are lost when it stops; set appendonly yes"
        )
    return warnings


def _clock_warnings(postgres_now: float) -> list[str]:
    skew = abs(time.time() - postgres_now)
    if skew <= _MAX_SKEW_SECONDS:
        return []
    return [f"the clocks of this machine and of PostgreSQL differ by {skew:.0f} s"]
