"""The names that the last scan of a large Redis found, kept in the database (`spillway.found_streams`).

A small Redis is scanned by every drain, so that a new stream is seen at once. With millions of other keys that takes
seconds of Redis's time. Then drains use the names of the last scan for `SPILLWAY_SCAN_EVERY`. Streams of the ledger are
always included, and a name whose stream is gone is left out, as a scan would.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

import psycopg
import redis

from tasks.ledger.names import original_name
from tasks.streams.find import existing_streams, scan_streams
from tasks.streams.glob import glob_regex

# A time ahead of the clock means that the clock was set back.
_READ = """
    SELECT names FROM spillway.found_streams
     WHERE search = %s AND clock_timestamp() - scanned_at BETWEEN INTERVAL '0' AND %s"""
_WRITE = """
    INSERT INTO spillway.found_streams (search, names) VALUES (%s, %s)
    ON CONFLICT (search) DO UPDATE SET names = EXCLUDED.names, scanned_at = EXCLUDED.scanned_at"""
# Of patterns that nobody asks for any more.
_CLEAR = "DELETE FROM spillway.found_streams WHERE scanned_at < clock_timestamp() - INTERVAL '1 day' - %s"
# An older schema, or a missing right: the checks that follow report it.
_UNAVAILABLE = (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege)


class FoundStreams:
    """The names that match patterns, from the database if a scan of the last `age` found them. None: always scan.

    `server`: the Redis, since a database may know several.
    """

    def __init__(self, client: redis.Redis, connection: psycopg.Connection, server: str, age: timedelta | None) -> None:
        self._client = client
        self._connection = connection
        self._server = server
        self._age = age
        self._new: tuple[bytes, list[bytes]] | None = None

    def names(self, patterns: list[str]) -> list[bytes]:
        """The names of the existing streams that match. Raises `redis.RedisError` and `psycopg.Error`."""
        if self._age is None:
            return scan_streams(self._client, patterns).names
        parts = [self._server, *sorted(set(patterns))]
        search = hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode("utf-8", "replace")).digest()
        try:
            row = self._connection.execute(_READ, [search, self._age], binary=True).fetchone()
        except _UNAVAILABLE:
            row = None
        if row is None:
            scan = scan_streams(self._client, patterns)
            self._new = (search, scan.names) if scan.is_long else None
            return scan.names
        return existing_streams(self._client, sorted({*row[0], *self._in_ledger(patterns)}))

    def save(self) -> None:
        """Keep what a long scan has found. Raises `psycopg.Error`."""
        if self._new is not None:
            with self._connection.transaction():
                self._connection.execute(_WRITE, self._new)
                self._connection.execute(_CLEAR, [self._age])
            self._new = None

    def _in_ledger(self, patterns: list[str]) -> list[bytes]:
        expressions = [glob_regex(pattern) for pattern in patterns]
        rows = self._connection.execute("SELECT name FROM spillway.streams")
        keys = [name.encode() for (name,) in rows if name == original_name(name)]
        return [key for key in keys if any(expression.fullmatch(key) for expression in expressions)]
