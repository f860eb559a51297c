"""What the ledger says of every stream: one query for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from infra.tables.read_table import parse_table_name
from tasks.ledger.load_seconds import BUCKETS, SUM_OF_BUCKETS
from tasks.ledger.names import original_name
from tasks.ledger.successes import FAILED_DRAIN
from tasks.metrics.stream_lag import ReadPosition

# Fixed labels: of all files together, and of the streams beyond the limit.
FILES, OTHERS = "(files)", "(others)"
# Gaps before the furthest drained id that are searched for the oldest undrained entry. A drain leaves few.
_GAPS = 10


@dataclass(frozen=True)
class LedgerFigures:
    """One row of `spillway.streams`, with the sums of its ledger and of its quarantine.

    `name`: in the ledger. `inserted`: by table. `passed`: how many of the entries ever added are accounted for.
    `drained_at`: when a drain last found something new; None if it never did. `undrained`: the first ranges of ids that
    the ledger does not have; the last of them has no end. `balanced`: whether the laws of the ledger hold, as far as
    one query shows.
    """

    name: str
    is_file: bool
    table: str
    inserted: Mapping[str, int]
    duplicates: int
    rejected: int
    conflicts: int
    lost: int
    accepted: int
    waiting: int
    passed: int
    drained_at: datetime | None
    undrained: tuple[tuple[int, int | None], ...]
    balanced: bool


# An entry that was refused again by a redrive keeps the kind that it came with, so that no count ever decreases.
_STREAMS = f"""
    WITH sums AS (
        SELECT l.stream, sum(l.read) AS read, sum(l.inserted) AS inserted, sum(l.duplicates) AS duplicates,
               sum(l.quarantined) AS quarantined, sum(l.lost) AS lost,
               bool_and(l.rows = l.inserted + l.duplicates + l.quarantined) AS even,
               sum(l.read) FILTER (WHERE lower(l.ids) <= s.settled_id) AS read_to_tail,
               sum(l.inserted) FILTER (WHERE l.by_table IS NULL) AS inserted_in_one
          FROM spillway.ledger AS l JOIN spillway.streams AS s ON s.id = l.stream GROUP BY l.stream
    ), routed AS (
        SELECT stream, jsonb_object_agg(name, rows) AS inserted
          FROM (SELECT l.stream, t.name, sum(t.rows::bigint) AS rows
                  FROM spillway.ledger AS l, jsonb_each_text(l.by_table) AS t (name, rows)
                 WHERE l.by_table IS NOT NULL GROUP BY 1, 2) AS tables GROUP BY stream
    ), kept AS (
        SELECT stream, count(*) AS entries, count(*) FILTER (WHERE outcome IS NULL) AS waiting,
               count(*) FILTER (WHERE coalesce(first_kind, kind) = 'conflict') AS conflicts
          FROM spillway.quarantine GROUP BY stream
    )
    SELECT s.name, EXISTS (SELECT FROM spillway.files AS f WHERE f.stream = s.id), s."table",
           coalesce(l.inserted_in_one, 0)::bigint, r.inserted, coalesce(l.duplicates, 0)::bigint,
           coalesce(k.entries - k.conflicts, 0), coalesce(k.conflicts, 0), s.lost, s.accepted, coalesce(k.waiting, 0),
           s.baseline + s.lost + s.read, greatest(s.settled_at, s.loaded_at),
           ARRAY(SELECT lower(gap)::text FROM unnest(u.ids) AS gap ORDER BY gap LIMIT {_GAPS}),
           ARRAY(SELECT upper(gap)::text FROM unnest(u.ids) AS gap ORDER BY gap LIMIT {_GAPS}),
           coalesce(upper(s.drained), 0)::text,
           (s.read, s.inserted, s.lost) = (coalesce(l.read, 0), coalesce(l.inserted, 0), coalesce(l.lost, 0))
           AND coalesce(l.even, true) AND coalesce(l.quarantined, 0) = coalesce(k.entries, 0)
           AND (s.settled_id IS NULL OR NOT s.drained @> numrange(0, s.settled_id + 1)
                OR s.settled_entries_added - s.baseline = coalesce(l.read_to_tail, 0) + s.lost)
      FROM spillway.streams AS s
      LEFT JOIN sums AS l ON l.stream = s.id
      LEFT JOIN routed AS r ON r.stream = s.id
      LEFT JOIN kept AS k ON k.stream = s.id,
           LATERAL (SELECT nummultirange(numrange(0, NULL)) - s.drained AS ids) AS u
     ORDER BY s.id"""  # noqa: S608


def read_ledger_figures(connection: psycopg.Connection) -> list[LedgerFigures]:
    """The figures of every stream and file, those first that were registered first. Raises `psycopg.Error`."""
    return [_figures(*row) for row in connection.execute(_STREAMS)]


def _figures(
    name: str, is_file: bool, table: str | None, inserted: int, routed: Mapping[str, int] | None, duplicates: int,
    rejected: int, conflicts: int, lost: int, accepted: int, waiting: int, passed: int, drained_at: datetime | None,
    starts: list[str], stops: list[str | None], furthest: str, balanced: bool,
) -> LedgerFigures:  # fmt: skip
    label = "" if table is None else table_label(table)
    by_table = {label: inserted} if inserted or not routed else {}
    for other, rows in (routed or {}).items():
        by_table[table_label(other)] = by_table.get(table_label(other), 0) + rows
    gaps = [(int(start), None if stop is None else int(stop)) for start, stop in zip(starts, stops, strict=True)]
    if not gaps or gaps[-1][1] is not None:  # there are more gaps than are searched
        gaps.append((int(furthest), None))
    return LedgerFigures(
        name, is_file, label, by_table, duplicates, rejected, conflicts, lost, accepted, waiting, passed, drained_at,
        tuple(gaps), balanced,
    )  # fmt: skip


def read_positions(figures: Iterable[LedgerFigures]) -> dict[str, ReadPosition]:
    """How far the ledger is with each stream that Redis has under this name: not with files, or what went back."""
    return {
        one.name: ReadPosition(one.passed, one.undrained)
        for one in figures
        if not one.is_file and one.name == original_name(one.name)
    }


def table_label(regclass: str) -> str:
    """`public.events` for `"public"."events"`."""
    return ".".join(parse_table_name(regclass))


def stream_labels(figures: Iterable[LedgerFigures], limit: int) -> dict[str, str]:
    """The label of each name in the ledger: the stream's name, of the first `limit` streams that were registered.

    The ledgers of a stream that went back, and of repeated loads, have the label of the stream, so that its counts
    never decrease.
    """
    labels: dict[str, str] = {}
    streams: set[str] = set()
    for one in figures:
        if one.is_file:
            labels[one.name] = FILES
            continue
        stream = original_name(one.name)
        if len(streams) < limit:
            streams.add(stream)
        labels[one.name] = stream if stream in streams else OTHERS
    return labels


@dataclass(frozen=True)
class LoadSeconds:
    """How long loads took. `buckets`: how many took at most each of `LOAD_SECONDS`, each load counted once, and how
    many took longer. `total`: of all, in seconds."""

    buckets: tuple[int, ...]
    total: float


_LOADS = f"""
    SELECT {SUM_OF_BUCKETS}, sum(seconds)::float8
      FROM (SELECT {BUCKETS} AS buckets, sum(seconds::float8) AS seconds FROM spillway.ledger WHERE ranges = 1
             UNION ALL SELECT {SUM_OF_BUCKETS}, sum(seconds) FROM spillway.load_hours) AS loads"""  # noqa: S608


def read_load_seconds(connection: psycopg.Connection) -> LoadSeconds:
    """How long all loads took that have been recorded. Raises `psycopg.Error`."""
    row = connection.execute(_LOADS).fetchone()
    assert row is not None  # an aggregate has one row
    buckets, total = row
    return LoadSeconds(tuple(count or 0 for count in buckets), total or 0.0)


_SUCCESSES = "SELECT flow, succeeded_at FROM spillway.successes WHERE flow <> %s ORDER BY flow"


def read_successes(connection: psycopg.Connection) -> dict[str, datetime]:
    """When a run of each flow last succeeded. Raises `psycopg.Error`."""
    rows: list[Any] = connection.execute(_SUCCESSES, [FAILED_DRAIN]).fetchall()
    return dict(rows)
