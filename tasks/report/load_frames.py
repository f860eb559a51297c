"""What was loaded, over time: frames from the ledger, the quarantine and the database's jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import psycopg

from infra.display import display_name

# Buckets of a span of time: about a hundred of them, in steps that people use.
_HOUR = timedelta(hours=1)
_STEPS = [timedelta(minutes=n) for n in (1, 5, 15)] + [timedelta(hours=n) for n in (1, 3, 12, 24, 168)]
_MOST_BUCKETS = 200

_ORIGIN = datetime(2001, 1, 1, tzinfo=UTC)  # of all buckets; a Monday

# Merged rows (`ranges` above 1) no longer know when each of their ranges was loaded: `load_hours` does, by the hour.
# The time of an id is in its upper 64 bits, in milliseconds. A file has no ids of that kind.
_LOADS = """
    SELECT date_bin(%(step)s, l.at, %(origin)s) AS at, s.name AS stream, s."table", sum(l.loads)::bigint AS loads,
           sum(l.read)::bigint AS read, sum(l.inserted)::bigint AS inserted, sum(l.duplicates)::bigint AS duplicates,
           sum(l.quarantined)::bigint AS quarantined, sum(l.lost)::bigint AS lost, sum(l.bytes)::bigint AS bytes,
           max(l.seconds)::float8 AS longest_seconds,
           max(l.age) FILTER (WHERE f.stream IS NULL)::float8 AS oldest_seconds
      FROM (SELECT stream, loaded_at AS at, 1 AS loads, read, inserted, duplicates, quarantined, lost, bytes, seconds,
                   extract(epoch FROM loaded_at) - div(upper(ids) - 1, 18446744073709551616) / 1000 AS age
              FROM spillway.ledger WHERE ranges = 1 AND loaded_at >= %(since)s
             UNION ALL
            SELECT stream, hour, loads, read, inserted, duplicates, quarantined, 0, bytes, max_seconds, NULL
              FROM spillway.load_hours WHERE hour >= %(since)s) AS l
      JOIN spillway.streams AS s ON s.id = l.stream
      LEFT JOIN (SELECT DISTINCT stream FROM spillway.files) AS f ON f.stream = s.id
     WHERE %(table)s::text IS NULL OR s."table" = %(table)s
     GROUP BY 1, 2, 3 ORDER BY 1, 2"""
_OUTCOMES = """
    SELECT s.name AS stream, s."table", sum(l.read)::bigint AS read, sum(l.inserted)::bigint AS inserted,
           sum(l.duplicates)::bigint AS duplicates, coalesce(max(q.conflicts), 0)::bigint AS conflicts,
           coalesce(max(q.refused), 0)::bigint AS refused, s.lost, s.accepted,
           coalesce(max(q.waiting), 0)::bigint AS waiting
      FROM spillway.streams AS s JOIN spillway.ledger AS l ON l.stream = s.id
      LEFT JOIN (SELECT stream, count(*) FILTER (WHERE kind = 'conflict') AS conflicts,
                        count(*) FILTER (WHERE kind = 'refused') AS refused,
                        count(*) FILTER (WHERE outcome IS NULL) AS waiting
                   FROM spillway.quarantine GROUP BY stream) AS q ON q.stream = s.id
     WHERE %(table)s::text IS NULL OR s."table" = %(table)s
     GROUP BY s.id ORDER BY read DESC, s.name"""
_QUARANTINE = """
    SELECT date_bin(%(step)s, q.quarantined_at, %(origin)s) AS at, s.name AS stream, q.kind,
           count(*) AS entries
      FROM spillway.quarantine AS q JOIN spillway.streams AS s ON s.id = q.stream
     WHERE q.quarantined_at >= %(since)s AND (%(table)s::text IS NULL OR s."table" = %(table)s)
     GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""


def bucket(span: timedelta) -> timedelta:
    """The width of a bucket, so that `span` has at most 200 of them; an hour at least if it is longer than a day."""
    least = _HOUR if span > timedelta(days=1) else _STEPS[0]
    return next((step for step in _STEPS if step >= least and span / step <= _MOST_BUCKETS), _STEPS[-1])


def bucket_start(moment: datetime, step: timedelta) -> datetime:
    """The start of the bucket of a moment."""
    return moment - (moment - _ORIGIN) % step


def loads(connection: psycopg.Connection, since: datetime, now: datetime, table: str | None = None) -> pd.DataFrame:
    """What each stream loaded, by bucket of time.

    One row for each bucket in which a stream was loaded: `at` (its start, UTC), `stream`, `table`; counts of entries
    `read`, `inserted`, `duplicates`, `quarantined`, `lost`; `loads` and `bytes`; `longest_seconds` of a load;
    `oldest_seconds`: how old the newest entry of a range was when it was loaded, at most; null for files. What is older
    than about a day is known by the hour, without `oldest_seconds`, for 90 days. Raises `psycopg.Error`.
    """
    return _frame(connection, _LOADS, since, now, table)


def outcomes(connection: psycopg.Connection, table: str | None = None) -> pd.DataFrame:
    """What became of all entries of each stream and file, from the first one on.

    One row for each: `stream`, `table`, `read`, `inserted`, `duplicates`, `conflicts`, `refused`, `lost`, `accepted`
    (of the lost), `waiting` (in quarantine). Raises `psycopg.Error`.
    """
    rows = connection.execute(_OUTCOMES, {"table": table})
    return _named(_read(rows))


def quarantined(
    connection: psycopg.Connection, since: datetime, now: datetime, table: str | None = None
) -> pd.DataFrame:
    """Entries that came into quarantine, by bucket of time: `at`, `stream`, `kind`, `entries`.

    Raises `psycopg.Error`.
    """
    return _frame(connection, _QUARANTINE, since, now, table)


def _frame(
    connection: psycopg.Connection, query: Any, since: datetime, now: datetime, table: str | None
) -> pd.DataFrame:
    values = {"step": bucket(now - since), "origin": _ORIGIN, "since": since, "table": table}
    return _named(_read(connection.execute(query, values)))


def _read(cursor: psycopg.Cursor[Any]) -> pd.DataFrame:
    names = [column.name for column in cursor.description or ()]
    found = pd.DataFrame(cursor.fetchall(), columns=names)
    if "at" in names:
        found["at"] = pd.to_datetime(found["at"], utc=True)
    return found


def _named(found: pd.DataFrame) -> pd.DataFrame:
    """Names without control characters: a producer chooses them."""
    found["stream"] = [display_name(name) for name in found["stream"]]
    return found
