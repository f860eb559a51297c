"""The chunks that the days of a backfill fall into: existing ones, as rows or compressed, and new ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import psycopg
from numpy.typing import NDArray

from infra.connections.clients import Clients
from infra.epoch import to_millis
from infra.tables.table import Table
from tasks.base.clock import server_now
from tasks.files.file_reader import DAY_MS
from tasks.maintain.chunk_states import ChunkState, chunk_states
from tasks.maintain.compression import desired_policy, read_current_policy
from tasks.maintain.jobs import is_community
from tasks.maintain.maintained_table import maintained_table
from tasks.maintain.recompression import Recompression
from tasks.table.chunks import has_chunks

_INTERVAL = """
    SELECT time_interval FROM timescaledb_information.dimensions
     WHERE hypertable_schema = %s AND hypertable_name = %s AND dimension_number = 1"""
_MS = timedelta(milliseconds=1)


@dataclass(frozen=True)
class ChunkMap:
    """The existing chunks of a table, the interval of a new one, and the server's time.

    `interval`: None for a table without chunks.
    """

    states: tuple[ChunkState, ...]
    interval: timedelta | None
    now: datetime


@dataclass(frozen=True)
class ChunkCounts:
    """How many chunks a backfill writes to: chunks of rows, compressed chunks, and new ones."""

    rows: int
    compressed: int
    new: int

    def __add__(self, other: ChunkCounts) -> ChunkCounts:
        return ChunkCounts(self.rows + other.rows, self.compressed + other.compressed, self.new + other.new)


def is_compressed(state: ChunkState) -> bool:
    """Whether rows for this chunk have to be merged."""
    return state.state != "rows"


def count_chunks(days: Iterable[int], layout: ChunkMap) -> ChunkCounts:
    """Count the chunks that overlap the days (starts in ms since 1970).

    Counted by whole days: a day with one row counts every chunk that it overlaps.
    """
    if layout.interval is None:
        return ChunkCounts(0, 0, 0)
    spans = [(*_span(state), is_compressed(state)) for state in layout.states]
    interval = max(1, layout.interval // _MS)
    seen: set[tuple[int, int]] = set()
    new: set[int] = set()
    kinds = {True: 0, False: 0}
    for day in days:
        inside = [span for span in spans if span[0] < day + DAY_MS and day < span[1]]
        for low, high, compressed in inside:
            if (low, high) not in seen:
                seen.add((low, high))
                kinds[compressed] += 1
        covered = sum(min(high, day + DAY_MS) - max(low, day) for low, high, _ in inside)
        if covered < DAY_MS:
            for number in range(day // interval, (day + DAY_MS - 1) // interval + 1):
                start = number * interval
                if not any(low <= start and start + interval <= high for low, high, _ in inside):
                    new.add(number)
    return ChunkCounts(kinds[False], kinds[True], len(new))


class NewChunks:
    """The chunks that a backfill has to create; each is reported once."""

    def __init__(self, layout: ChunkMap) -> None:
        spans = np.array(sorted(_span(state) for state in layout.states), np.int64).reshape(-1, 2) * 1000
        self._lows, self._highs = spans.T
        self._interval = None if layout.interval is None else max(1, layout.interval // timedelta(microseconds=1))
        self._reported: set[int] = set()

    def of(self, moments: NDArray[np.int64]) -> list[int]:
        """One of the times (microseconds since 1970) for each chunk that does not exist and was not reported before."""
        if self._interval is None:
            return []
        at = np.searchsorted(self._lows, moments, "right") - 1
        there = (at >= 0) & (moments < self._highs[at]) if len(self._lows) else np.zeros(len(moments), bool)
        found = {int(moment) // self._interval: int(moment) for moment in moments[~there]}
        new = {number: moment for number, moment in found.items() if number not in self._reported}
        self._reported |= new.keys()
        return list(new.values())


def compressed_borders(layout: ChunkMap) -> list[int]:
    """The days (ms since 1970) at which compressed chunks start and end, so that a batch has rows of one kind only."""
    found: list[int] = []
    for low, high in sorted(_span(state) for state in layout.states if is_compressed(state)):
        first, beyond = low // DAY_MS * DAY_MS, -(-high // DAY_MS) * DAY_MS
        if found and first <= found[-1]:  # no border between adjacent chunks
            found[-1] = max(found[-1], beyond)
        else:
            found += [first, beyond]
    return found


def reaches_compressed(layout: ChunkMap, low_us: int | None, high_us: int | None) -> bool:
    """Whether rows with times in a range (microseconds since 1970) may go into a compressed chunk."""
    if low_us is None or high_us is None:
        return False
    return any(
        span[0] * 1000 <= high_us and low_us < span[1] * 1000
        for span in (_span(state) for state in layout.states if is_compressed(state))
    )


def to_compress(
    layout: ChunkMap, days: Sequence[int], after: timedelta, before: int | None = None
) -> list[Recompression]:
    """The chunks that overlap the days, are older than `after` and are not fully compressed.

    `before`: only chunks that end by this day (ms since 1970).
    """
    found = []
    for state in layout.states:
        low, high = _span(state)
        due = state.chunk.range_end <= layout.now - after and state.state in ("rows", "partial")
        due = due and (before is None or high <= before)
        if due and any(low < day + DAY_MS and day < high for day in days):
            found.append(Recompression(state, "backfilled", whole=False))
    return found


def _span(state: ChunkState) -> tuple[int, int]:
    return to_millis(state.chunk.range_start), to_millis(state.chunk.range_end)


def read_chunk_map(connection: psycopg.Connection, table: Table) -> ChunkMap:
    """The chunks of a table as they are now. Raises `psycopg.Error`."""
    interval = None
    if has_chunks(table):
        row = connection.execute(_INTERVAL, [table.schema, table.name]).fetchone()
        interval = None if row is None else row[0]
    return ChunkMap(tuple(chunk_states(connection, table)), interval, server_now(connection))


def chunks_due(clients: Clients, table: Table, days: Sequence[int], before: int | None = None) -> list[Recompression]:
    """`to_compress` with the options and the chunks of a table. Raises `SpillwayError`.

    Empty if compression is off, if the edition cannot compress, or if `spillway maintain` has not set the table up yet.
    """
    if not has_chunks(table):
        return []
    with clients.translate_errors("chunks to compress"), clients.postgres() as connection:
        if not is_community(connection):
            return []
        current = read_current_policy(connection, table)
        wanted = desired_policy(maintained_table(clients.settings, table), current)
        if wanted is None or not current.enabled:
            return []
        return to_compress(read_chunk_map(connection, table), days, wanted.after, before)
