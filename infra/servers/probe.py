"""Checks whether the servers answer."""

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
from infra.versions import unsupported_database

PROBE_TIMEOUT = 3  # seconds for one answer
START_LIMIT = 120  # seconds within which a started server must answer: a crash recovery or a large AOF takes long
PAUSE = 0.1  # seconds between two attempts


class UnsupportedDatabase(psycopg.Error):
    """A database server that Spillway cannot work with. Its text ends with the next step."""


def local_redis(port: int) -> str:
    """The URL of a Redis that Spillway started."""
    return f"redis://127.0.0.1:{port}/0"


def local_database(port: int, database: str = DATABASE) -> str:
    """The URL of a database that Spillway started, with its password: never print it."""
    return f"postgresql://{DATABASE_USER}:{DATABASE_PASSWORD}@127.0.0.1:{port}/{database}"


def redis_version(url: str, timeout: float = PROBE_TIMEOUT) -> str:
    """The version of the Redis at `url`.

    Raises redis-py's errors, also while it is loading its data, and `UnsupportedServer`.
    """
    client = open_redis(url, timeout, timeout)
    try:
        client.ping()
        return str(client.info("server")["redis_version"])
    finally:
        client.close()


def database_version(url: str, timeout: float = PROBE_TIMEOUT) -> str:
    """The versions at `url` as `PostgreSQL x, TimescaleDB y`; without the latter if it is not installed.

    Raises psycopg's errors, `Terminal` if the encoding is not UTF8, and `UnsupportedDatabase` for an old version.
    """
    with closing(open_session(url, connect_timeout=timeout)) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int,"
            " (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')"
        ).fetchone()
    assert row is not None
    version, number, timescale = row
    if reason := unsupported_database(number, timescale):
        raise UnsupportedDatabase(reason)
    return f"PostgreSQL {version.split()[0]}" + (f", TimescaleDB {timescale}" if timescale else "")


def wait_until_answers(ask: Callable[[], str], alive: Callable[[], bool], limit: float = START_LIMIT) -> str | None:
    """Call `ask` until it answers. Returns None, or a short reason why it gave up.

    Gives up after `limit` seconds, or once `alive` has been false for 3 s: a server that goes into the background
    writes its pid file shortly after the process that started it has ended.
    """
    deadline, seen_alive = time.monotonic() + limit, time.monotonic()
    while True:
        try:
            ask()
        except (psycopg.Error, redis.RedisError) as error:
            if not is_transient(error):
                return f"it refuses the connection ({one_line(error)})"
            now = time.monotonic()
            if alive():
                seen_alive = now
            if now - seen_alive > 3:
                return "it ended while starting"
            if now > deadline:
                return f"it did not answer within {limit:.0f} s ({one_line(error)})"
            time.sleep(PAUSE)
        else:
            return None
