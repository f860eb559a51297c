"""What was loaded, over time: frames from the ledger, the quarantine and the database's jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import pandas as pd
import psycopg

from infra.display import display_name
from infra.tables.read_table import is_default
from infra.tables.table import Table

# Buckets of a span of time: about a hundred of them, in steps that people use.
_HOUR = timedelta(hours=1)
_STEPS = [timedelta(minutes=n) for n in (1, 5, 15)] + [timedelta(hours=n) for n in (1, 3, 12, 24, 168)]
_MOST_BUCKETS = 200

_ORIGIN = datetime(2001, 1, 1, tzinfo=UTC)  # of all buckets; a Monday

# The streams that load a table: by their own name for it, by the default, or by a route, which the ledger records.
_OF_TABLE = """
    (%(table)s::text IS NULL OR s."table" = %(table)s OR (s."table" IS NULL AND %(is_events)s)
     OR s.id IN (SELECT stream FROM spillway.ledger WHERE by_table ? %(table)s))"""
# Rows that a ledger row counts as inserted into the table. Those of an hour of `load_hours` are known only together.
_INSERTED = """
    CASE WHEN %(table)s::text IS NULL OR l.by_table IS NULL THEN l.inserted
         ELSE coalesce((l.by_table->>%(table)s)::bigint, 0) END"""
# Merged rows (`ranges` above 1) no longer know when each of their ranges was loaded: `load_hours` does, by the hour.
# The time of an id is in its upper 64 bits, in milliseconds. A file has no ids of that kind.
_LOADS = f"""
    WITH routed AS (SELECT DISTINCT stream FROM spillway.ledger WHERE by_table IS NOT NULL)
    SELECT date_bin(%(step)s, l.at, %(origin)s) AS at, s.name AS stream, coalesce(%(table)s, s."table") AS "table",
           sum(l.loads)::bigint AS loads, sum(l.read)::bigint AS read,
           CASE WHEN count(l.inserted) = count(*) THEN sum(l.inserted)::bigint END AS inserted,
           sum(l.duplicates)::bigint AS duplicates, sum(l.quarantined)::bigint AS quarantined,
           sum(l.lost)::bigint AS lost, sum(l.bytes)::bigint AS bytes, max(l.seconds)::float8 AS longest_seconds,
           max(l.age) FILTER (WHERE f.stream IS NULL)::float8 AS oldest_seconds
      FROM (SELECT stream, loaded_at AS at, 1 AS loads, read, {_INSERTED} AS inserted, duplicates, quarantined, lost,
                   bytes, seconds,
                   extract(epoch FROM loaded_at) - div(upper(ids) - 1, 18446744073709551616) / 1000 AS age
              FROM spillway.ledger AS l WHERE ranges = 1 AND loaded_at >= %(since)s
             UNION ALL
            SELECT stream, hour, loads, read,
                   CASE WHEN %(table)s::text IS NULL OR stream NOT IN (SELECT stream FROM routed) THEN inserted END,
                   duplicates, quarantined, 0, bytes, max_seconds, NULL
              FROM spillway.load_hours WHERE hour >= %(since)s) AS l
      JOIN spillway.streams AS s ON s.id = l.stream
      LEFT JOIN (SELECT DISTINCT stream FROM spillway.files) AS f ON f.stream = s.id
     WHERE {_OF_TABLE}
     GROUP BY 1, 2, 3 ORDER BY 1, 2"""  # noqa: S608
_OUTCOMES = f"""
    SELECT s.name AS stream, coalesce(%(table)s, s."table") AS "table", sum(l.read)::bigint AS read,
           sum({_INSERTED})::bigint AS inserted, sum(l.inserted - {_INSERTED})::bigint AS other_tables,
           sum(l.duplicates)::bigint AS duplicates, coalesce(max(q.conflicts), 0)::bigint AS conflicts,
           coalesce(max(q.refused), 0)::bigint AS refused, s.lost, s.accepted,
           coalesce(max(q.waiting), 0)::bigint AS waiting
      FROM spillway.streams AS s JOIN spillway.ledger AS l ON l.stream = s.id
      LEFT JOIN (SELECT stream, count(*) FILTER (WHERE kind = 'conflict') AS conflicts,
                        count(*) FILTER (WHERE kind = 'refused') AS refused,
                        count(*) FILTER (WHERE outcome IS NULL) AS waiting
                   FROM spillway.quarantine GROUP BY stream) AS q ON q.stream = s.id
     WHERE {_OF_TABLE}
     GROUP BY s.id ORDER BY read DESC, s.name"""  # noqa: S608
_QUARANTINE = f"""
    SELECT date_bin(%(step)s, q.quarantined_at, %(origin)s) AS at, s.name AS stream, q.kind,
           count(*) AS entries
      FROM spillway.quarantine AS q JOIN spillway.streams AS s ON s.id = q.stream
     WHERE q.quarantined_at >= %(since)s AND {_OF_TABLE}
     GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""  # noqa: S608
_STREAMS = f"SELECT s.name FROM spillway.streams AS s WHERE {_OF_TABLE} ORDER BY s.id"  # noqa: S608


@dataclass(frozen=True)
class Buckets:
    """The buckets of a report: from the start of the first one to the end of the newest, which is not over yet."""

    first: datetime
    end: datetime
    step: timedelta


def buckets(since: datetime, now: datetime) -> Buckets:
    """Those that cover the time from `since` to `now`."""
    step = bucket(now - since)
    return Buckets(bucket_start(since, step), bucket_start(now, step) + step, step)


def bucket(span: timedelta) -> timedelta:
    """The width of a bucket, so that `span` has at most 200 of them; an hour at least if it is longer than a day."""
    least = _HOUR if span > timedelta(days=1) else _STEPS[0]
    return next((step for step in _STEPS if step >= least and span / step <= _MOST_BUCKETS), _STEPS[-1])


def bucket_start(moment: datetime, step: timedelta) -> datetime:
    """The start of the bucket of a moment."""
    return moment - (moment - _ORIGIN) % step


def loads(connection: psycopg.Connection, since: datetime, now: datetime, table: Table | None = None) -> pd.DataFrame:
    """What each stream loaded, by bucket of time; of one table, the streams that load it, also by a route.

    One row for each bucket in which a stream was loaded: `at` (its start, UTC), `stream`, `table`; counts of entries
    `read`, `inserted`, `duplicates`, `quarantined`, `lost`; `loads` and `bytes`; `longest_seconds` of a load;
    `oldest_seconds`: how old the newest entry of a range was when it was loaded, at most; null for files. What is older
    than about a day is known by the hour, without `oldest_seconds`, for 90 days. Of one table, `inserted` is that of
    the table, or null for such an hour of a stream with a route; the other counts are of the whole stream. Raises
    `psycopg.Error`.
    """
    return _named(_read(connection, _LOADS, {**_time(since, now), **_of(table)}))


def outcomes(connection: psycopg.Connection, table: Table | None = None) -> pd.DataFrame:
    """What became of all entries of each stream and file, from the first one on.

    One row for each: `stream`, `table`, `read`, `inserted`, `other_tables` (inserted by a route into other tables than
    the one that is asked for), `duplicates`, `conflicts`, `refused`, `lost`, `accepted` (of the lost), `waiting` (in
    quarantine). Raises `psycopg.Error`.
    """
    return _named(_read(connection, _OUTCOMES, _of(table)))


def quarantined(
    connection: psycopg.Connection, since: datetime, now: datetime, table: Table | None = None
) -> pd.DataFrame:
    """Entries that came into quarantine, by bucket of time: `at`, `stream`, `kind`, `entries`.

    Raises `psycopg.Error`.
    """
    return _named(_read(connection, _QUARANTINE, {**_time(since, now), **_of(table)}))


def streams_of(connection: psycopg.Connection, table: Table) -> tuple[str, ...]:
    """The names of the streams and files that load a table, also by a route. Raises `psycopg.Error`."""
    return tuple(name for (name,) in connection.execute(_STREAMS, _of(table)))


def _time(since: datetime, now: datetime) -> dict[str, Any]:
    return {"step": bucket(now - since), "origin": _ORIGIN, "since": since}


def _of(table: Table | None) -> dict[str, Any]:
    return {"table": None if table is None else table.regclass, "is_events": table is not None and is_default(table)}


def _read(connection: psycopg.Connection, query: LiteralString, values: dict[str, Any]) -> pd.DataFrame:
    cursor = connection.execute(query, values)
    names = [column.name for column in cursor.description or ()]
    found = pd.DataFrame(cursor.fetchall(), columns=names)
    if "at" in names:
        found["at"] = pd.to_datetime(found["at"], utc=True)
    return found


def _named(found: pd.DataFrame) -> pd.DataFrame:
    """Names without control characters: a producer chooses them."""
    found["stream"] = [display_name(name) for name in found["stream"]]
    return found
