"""The state of each stream: its lag, when it was last drained, and how many of its entries are in quarantine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import psycopg
import redis

from tasks.ledger.names import original_name
from tasks.streams.tails import read_tails


@dataclass(frozen=True)
class StreamStatus:
    """One stream. `lag`: entries that are neither drained nor known to be lost; None if Redis no longer has the stream.

    `last_drained`: when a drain last found something new in it; None if it never did. `waiting`: entries in
    quarantine that were neither redriven nor discarded. `lost`: entries that were deleted before they were drained.
    """

    name: str
    lag: int | None
    last_drained: datetime | None
    waiting: int
    lost: int


# Files have no tail to lag behind, and neither does the old ledger of a rewound stream.
_STREAMS = """
    SELECT s.name, s.baseline + s.lost + s.read AS passed, greatest(s.settled_at, s.loaded_at) AS last_drained,
           coalesce(q.waiting, 0) AS waiting, s.lost
      FROM spillway.streams AS s
      LEFT JOIN (SELECT stream, count(*) AS waiting FROM spillway.quarantine WHERE outcome IS NULL GROUP BY stream)
             AS q ON q.stream = s.id
     WHERE s.id NOT IN (SELECT stream FROM spillway.files)
     ORDER BY s.name"""
_WAITING = "SELECT count(*) FROM spillway.quarantine WHERE outcome IS NULL"


def stream_statuses(
    client: redis.Redis, connection: psycopg.Connection, expected: Iterable[str] = ()
) -> list[StreamStatus]:
    """Every stream in the ledger, and those of `expected` that are not in it yet, sorted by name.

    Raises `psycopg.Error` and `redis.RedisError`.
    """
    known = {name: numbers for name, *numbers in connection.execute(_STREAMS) if name == original_name(name)}
    found = []
    for name, tail in read_tails(client, sorted({*known, *expected})).items():
        if name in known:
            passed, last_drained, waiting, lost = known[name]
            lag = None if tail is None else max(0, tail.added - passed)
            found.append(StreamStatus(name, lag, last_drained, waiting, lost))
        elif tail is not None:
            found.append(StreamStatus(name, tail.length, None, 0, 0))
    return found


def quarantine_waiting(connection: psycopg.Connection) -> int:
    """The number of entries that wait in quarantine, including those of files."""
    row = connection.execute(_WAITING).fetchone()
    assert row is not None  # an aggregate has one row
    waiting: int = row[0]
    return waiting
