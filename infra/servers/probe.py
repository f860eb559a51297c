"""Asking the servers whether they answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

import psycopg
import redis

from infra.connections.redis_client import open_redis
from infra.connections.session import open_session
from infra.errors.classify import is_transient
from infra.errors.redact import one_line
from infra.settings import DATABASE, DATABASE_PASSWORD, DATABASE_USER
from infra.versions import unfit_database

PROBE_TIMEOUT = 3  # seconds for one answer
START_LIMIT = 120  # seconds until a started server must answer: a crash recovery or a long AOF takes its time
PAUSE = 0.1  # seconds between two questions


class UnfitDatabase(psycopg.Error):
    """A database server that Spillway cannot work with; the text ends with the next step."""


def local_redis(port: int) -> str:
    """URL of a Redis that Spillway started."""
    return f"redis://127.0.0.1:{port}/0"


def local_database(port: int, database: str = DATABASE) -> str:
    """URL of a database that Spillway started, password included: never print it."""
    return f"postgresql://{DATABASE_USER}:{DATABASE_PASSWORD}@127.0.0.1:{port}/{database}"


def redis_version(url: str, timeout: float = PROBE_TIMEOUT) -> str:
    """The version of the Redis at `url`. Raises redis-py's errors; also while it is still loading its data, and
    `UnfitServer` for one that Spillway cannot work with."""
    client = open_redis(url, timeout, timeout)
    try:
        client.ping()
        return str(client.info("server")["redis_version"])
    finally:
        client.close()


def database_version(url: str, timeout: float = PROBE_TIMEOUT) -> str:
    """`PostgreSQL x, TimescaleDB y` at `url`; the latter only if it is there.

    Raises psycopg's errors, `Terminal` for a database of another encoding than UTF8, and `UnfitDatabase` for a version
    that Spillway cannot work with.
    """
    with closing(open_session(url, connect_timeout=timeout)) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int,"
            " (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')"
        ).fetchone()
    assert row is not None
    version, number, timescale = row
    if unfit := unfit_database(number, timescale):
        raise UnfitDatabase(unfit)
    return f"PostgreSQL {version.split()[0]}" + (f", TimescaleDB {timescale}" if timescale else "")


def wait_until_answers(ask: Callable[[], str], alive: Callable[[], bool], limit: float = START_LIMIT) -> str | None:
    """Ask until there is an answer: None then, else why it is given up, in a few words.

    Gives up after `limit` seconds, or once `alive` has been false for 3 s: a server that goes to the background
    writes its pid file a moment after its starter has ended.
    """
    deadline, seen_alive = time.monotonic() + limit, time.monotonic()
    while True:
        try:
            ask()
        except (psycopg.Error, redis.RedisError) as error:
            if not is_transient(error):
                return f"it refuses ({one_line(error)})"
            now = time.monotonic()
            if alive():
                seen_alive = now
            if now - seen_alive > 3:
                return "it ended at its start"
            if now > deadline:
                return f"it did not answer within {limit:.0f} s ({one_line(error)})"
            time.sleep(PAUSE)
        else:
            return None
