"""Limits the chunks that one run may create: entries with times spread over years must not create a table each."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np
import psycopg
from numpy.typing import NDArray

from infra.epoch import micros_sql
from infra.tables.read_table import is_default
from infra.tables.table import Table
from tasks.base.stream_sql import fill_in
from tasks.columns.batch import Batch
from tasks.columns.decode import RefusedTimes
from tasks.columns.encoded_rows import EncodedRows
from tasks.table.chunks import has_chunks

# In microseconds since 1970: a chunk may begin or end at a time that no Python datetime can represent.
_LAYOUT = fill_in(
    """
    SELECT {interval}, {now},
           array_agg({start} ORDER BY c.range_start),
           array_agg({end} ORDER BY c.range_start)
      FROM pg_class AS h JOIN pg_namespace AS n ON n.oid = h.relnamespace
      JOIN timescaledb_information.dimensions AS d
        ON d.hypertable_schema = n.nspname AND d.hypertable_name = h.relname AND d.dimension_number = 1
      LEFT JOIN timescaledb_information.chunks AS c
        ON c.hypertable_schema = n.nspname AND c.hypertable_name = h.relname
     WHERE h.oid = %s::regclass GROUP BY 1, 2""",
    interval=micros_sql("d.time_interval"),
    now=micros_sql("now()"),
    start=micros_sql("c.range_start"),
    end=micros_sql("c.range_end"),
)

# Chunks around the present are always allowed and not counted: the current one, this many before it, and the next one.
_RECENT = 4
_HOUR_US = 3_600_000_000  # `EncodedRows.hourly_times` has one time of each hour


class NewChunkLimit:
    """The chunks that one run may create, those nearest to the present first. All loads of the run share one.

    The limit is for all tables together. The server is queried only for a batch with times outside the known chunks of
    its table, and once for such a batch.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()
        self._tables: dict[str, _KnownChunks] = {}
        self._counted = 0

    def admit(self, connection: psycopg.Connection, batch: Batch) -> Batch:
        """The batch, or a copy of it that refuses the rows whose chunks would exceed the limit.

        The same batch always gets the same answer. Raises `psycopg.Error` with nothing changed.
        """
        refused = {}
        for rows in batch.tables:
            table = rows.layout.table
            if has_chunks(table) and len(rows.encoded.hourly_times):
                with self._lock:
                    known = self._tables.setdefault(table.regclass, _KnownChunks(table))
                    if self._exceeds(connection, rows.encoded, known):
                        refused[table.regclass] = RefusedTimes(self._refuses(known), self._reason)
        return batch.refusing(refused) if refused else batch

    def _exceeds(self, connection: psycopg.Connection, rows: EncodedRows, known: _KnownChunks) -> bool:
        """Whether some rows of a table need chunks that the run may not create."""
        if not known.outside(known.times_of(rows)).any():
            return False
        now = known.read(connection)
        times = known.times_of(rows)
        wanted = {int(n) for n in np.unique(times[known.outside(times)] // known.interval)}
        for number in sorted(wanted - known.refused, key=lambda n: abs(n - now)):
            recent = now - _RECENT <= number <= now + 1
            if not recent and self._counted >= self._most:
                known.refused.add(number)
                continue
            known.admitted.add(number)
            self._counted += not recent
        return bool(wanted & known.refused)

    def warnings(self) -> list[str]:
        """Warnings for the end of the run."""
        return [
            f"entries with times in {len(known.refused)} new chunks{_of(known.table)} wait in quarantine: one run"
            f" creates at most {self._most} (SPILLWAY_MAX_NEW_CHUNKS), those nearest to the present first; check their"
            f" times: spillway quarantine list --field {known.table.time}; if they are right: spillway quarantine"
            f" redrive --field {known.table.time} --yes"
            for known in self._tables.values()
            if known.refused
        ]

    @property
    def _reason(self) -> str:
        return (
            f"one run creates at most {self._most} new chunks (SPILLWAY_MAX_NEW_CHUNKS), and this time needs"
            " one more; if it is right: spillway quarantine redrive --yes"
        )

    def _refuses(self, known: _KnownChunks) -> Callable[[NDArray[np.int64]], NDArray[np.bool_]]:
        def refuses(times: NDArray[np.int64]) -> NDArray[np.bool_]:
            """Which times have no chunk, and need one that this run may not create."""
            with self._lock:
                return known.absent(times) & np.isin(times // known.interval, list(known.refused))

        return refuses


class _KnownChunks:
    """The chunks of one table as far as they are known; `NewChunkLimit` holds its lock around every use.

    `interval`: of new chunks in microseconds. `admitted`, `refused`: the numbers of chunks, counted in intervals from
    1970, that the run may create, and those that it may not.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.interval = _HOUR_US
        self.admitted: set[int] = set()
        self.refused: set[int] = set()
        self._lows = self._highs = np.zeros(0, np.int64)

    def read(self, connection: psycopg.Connection) -> int:
        """Read the existing chunks. Returns the number of the current one."""
        row = connection.execute(_LAYOUT, [self.table.regclass]).fetchone()
        assert row is not None  # preflight has seen the hypertable
        interval, now, lows, highs = row
        existing = [n for n, low in enumerate(lows) if low is not None]
        self.interval = max(1, interval)
        self._lows = np.array([lows[n] for n in existing], np.int64)
        self._highs = np.array([highs[n] for n in existing], np.int64)
        return int(now) // self.interval

    def times_of(self, rows: EncodedRows) -> NDArray[np.int64]:
        """Times that reveal every chunk that the rows need. Few, unless a chunk may begin within an hour."""
        return rows.times if self.interval % _HOUR_US else rows.hourly_times

    def absent(self, times: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which times have no existing chunk."""
        if not len(self._lows):
            return np.ones(len(times), bool)
        at = np.searchsorted(self._lows, times, "right") - 1
        return (at < 0) | (times >= self._highs[at])

    def outside(self, times: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which times have no chunk, neither an existing one nor one that this run may create."""
        return self.absent(times) & ~np.isin(times // self.interval, list(self.admitted))


def _of(table: Table) -> str:
    return "" if is_default(table) else f" of {table.display_name}"
