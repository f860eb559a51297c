"""Decide which absent rows went with a chunk that retention dropped, as far as that can be known."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import psycopg
from numpy.typing import NDArray

from infra.epoch import to_micros
from infra.tables.table import Table
from tasks.base.addresses import IdRange
from tasks.base.stream_sql import fill_in
from tasks.maintain.audited_chunks import may_be_dropped_until
from tasks.table.chunks import chunks

# A row whose load time is unknown counts as loaded before every drop. The database's own job may run at any time, so it
# counts as running after every load.
UNKNOWN = -(2**63)
_ANY_TIME = 2**63 - 1

_DROPS = """SELECT range_start, range_end, dropped_at, rows IS NOT NULL FROM spillway.drops WHERE "table" = %s"""
# A merged range has only the load time of its last part.
_LOADED = fill_in("""
    SELECT lower(ids)::text, upper(ids)::text, CASE WHEN ranges = 1 THEN loaded_at END FROM spillway.ledger
     WHERE stream = {stream_id} AND ids && numrange(%(start)s, %(stop)s)
     ORDER BY ids""")
_REDRIVEN = fill_in("""
    SELECT entry_id, resolved_at FROM spillway.quarantine
     WHERE stream = {stream_id} AND entry_id = ANY(%(entries)s)
       AND outcome = 'redriven' AND replayed IS NULL""")


@dataclass(frozen=True)
class Drop:
    """Chunks with times from `start` to before `end` were dropped by `at`, in microseconds since 1970.

    If not `counted`, the database's own job dropped whole chunks that ended by `end`; which ones is not known.
    """

    start: int
    end: int
    at: int
    counted: bool


@dataclass(frozen=True)
class Retention:
    """All drops of a table, and its existing chunks: start, end and creation time, in microseconds since 1970."""

    drops: tuple[Drop, ...]
    chunks: tuple[tuple[int, int, int], ...]

    def took(self, times: NDArray[np.int64], loaded: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which absent rows retention dropped, by their times and the start of their loads; all of shape (n,).

        A drop can only take rows that were loaded before it. It did not take rows that were loaded after the existing
        chunk was created: late events create a dropped chunk again.
        """
        ordered = sorted(self.chunks)
        bounds = np.array([*ordered, (_ANY_TIME, _ANY_TIME, _ANY_TIME)], np.int64)
        position = np.searchsorted(bounds[:-1, 0], times, side="right") - 1
        _, end, made = bounds[position].T  # times before the first chunk have position -1: the last row, which is empty
        inside = (position >= 0) & (times < end)
        gone = np.zeros(len(times), bool)
        for drop in self.drops:
            took = (times >= drop.start) & (times < drop.end) & (loaded <= drop.at)
            gone |= took if drop.counted else took & ~(inside & (end > drop.end))
        found: NDArray[np.bool_] = gone & ~(inside & (loaded > made))
        return found


def retention(connection: psycopg.Connection, table: Table) -> Retention:
    """The recorded drops of a table, and what the database's own job may drop at any moment; of a partitioned table,
    what lies before its oldest partition. Raises `psycopg.Error`."""
    drops = [
        Drop(to_micros(start) if start else UNKNOWN, to_micros(end), to_micros(at), counted)
        for start, end, at, counted in connection.execute(_DROPS, [table.regclass]).fetchall()
    ]
    if (until := may_be_dropped_until(connection, table)) is not None:
        drops.append(Drop(UNKNOWN, to_micros(until), _ANY_TIME, counted=False))
    there = chunks(connection, table).items() if drops else ()
    return Retention(
        tuple(drops),
        tuple((to_micros(chunk.range_start), to_micros(chunk.range_end), to_micros(made)) for chunk, made in there),
    )


def dropped_rows(
    connection: psycopg.Connection,
    table: Table,
    stream: str,
    ids: IdRange,
    entries: Sequence[tuple[int, str]],
    times: Sequence[int],
) -> list[bool]:
    """For each of some drained entries that `table` lacks, whether retention dropped its row.

    `entries`: their ids as number and as text, within `ids`. `times`: of their events, in microseconds since 1970. Call
    this after reading the table, so that drops in between are on record. Raises `psycopg.Error`.
    """
    found = retention(connection, table) if entries else Retention((), ())
    if not found.drops:
        return [False] * len(entries)
    ranges = connection.execute(_LOADED, {"stream": stream, "start": ids.start, "stop": ids.stop}).fetchall()
    starts = [int(start) for start, _, _ in ranges]
    stops = [int(stop) for _, stop, _ in ranges]
    resolved = connection.execute(_REDRIVEN, {"stream": stream, "entries": [text for _, text in entries]})
    redriven = {text: to_micros(moment) for text, moment in resolved}

    def loaded(entry: int, text: str) -> int:
        position = bisect_right(starts, entry) - 1
        at = ranges[position][2] if position >= 0 and entry < stops[position] else None
        return max(to_micros(at) if at else UNKNOWN, redriven.get(text, UNKNOWN))

    began = np.array([loaded(*entry) for entry in entries], np.int64)
    return [bool(gone) for gone in found.took(np.array(times, np.int64), began)]
