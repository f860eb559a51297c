"""How many chunks one run may make: a few entries with times all over the years must not become a table each."""

from __future__ import annotations

from threading import Lock

import numpy as np
import psycopg
from numpy.typing import NDArray

from infra.epoch import micros_sql
from infra.table import events_name
from tasks.base.stream_sql import fill_in
from tasks.columns.batch import Batch
from tasks.columns.decode import RefusedTimes

# In microseconds since 1970: a chunk may begin or end at a time that Python has no datetime for.
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

# The chunks around the present are made in any case and not counted: so many before that of now, and the one after it.
_RECENT = 4
_HOUR_US = 3_600_000_000  # a batch names one time of each hour


class NewChunkLimit:
    """The chunks that one run may make, those nearest to the present first. Its loads share it.

    The server is asked only when a batch has times outside the chunks seen last: once for such a batch.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()
        self._interval = _HOUR_US
        self._lows = self._highs = np.zeros(0, np.int64)
        self._admitted: set[int] = set()
        self._refused: set[int] = set()
        self._counted = 0

    def admit(self, connection: psycopg.Connection, batch: Batch) -> None:
        """Leave out of `batch` the events whose chunks would be too many. Again for the same batch: the same ones.

        Raises `psycopg.Error` with nothing changed.
        """
        if not len(batch.moments):
            return
        with self._lock:
            if not self._outside(self._times(batch)).any():
                return
            now = self._look(connection)
            times = self._times(batch)
            wanted = {int(n) for n in np.unique(times[self._outside(times)] // self._interval)}
            for number in sorted(wanted - self._refused, key=lambda n: abs(n - now)):
                recent = now - _RECENT <= number <= now + 1
                if not recent and self._counted >= self._most:
                    self._refused.add(number)
                    continue
                self._admitted.add(number)
                self._counted += not recent
            refused = bool(wanted & self._refused)
        if refused:
            batch.leave_out(RefusedTimes(self._closed, self._reason))

    def warnings(self) -> list[str]:
        """What a person should know when the run has ended."""
        if not self._refused:
            return []
        return [
            f"entries with times in {len(self._refused)} new chunks wait in quarantine: one run makes at most"
            f" {self._most} (SPILLWAY_MAX_NEW_CHUNKS), the nearest to the present first; look at their times (spillway"
            " quarantine list --field time); if they are right: spillway quarantine redrive --field time --yes"
        ]

    @property
    def _reason(self) -> str:
        return (
            f"one run makes at most {self._most} new chunks (SPILLWAY_MAX_NEW_CHUNKS), and this time needs another"
            " one; if it is right: spillway quarantine redrive --yes"
        )

    def _look(self, connection: psycopg.Connection) -> int:
        """Look at the chunks as they are now; the number of that of the present."""
        row = connection.execute(_LAYOUT, [events_name()]).fetchone()
        assert row is not None  # preflight has seen the hypertable
        interval, now, lows, highs = row
        there = [n for n, low in enumerate(lows) if low is not None]
        self._interval = max(1, interval)
        self._lows = np.array([lows[n] for n in there], np.int64)
        self._highs = np.array([highs[n] for n in there], np.int64)
        return int(now) // self._interval

    def _times(self, batch: Batch) -> NDArray[np.int64]:
        """Times that show every chunk which the batch needs: few, unless chunks begin within an hour."""
        return batch.times if self._interval % _HOUR_US else batch.moments

    def _no_chunk(self, times: NDArray[np.int64]) -> NDArray[np.bool_]:
        if not len(self._lows):
            return np.ones(len(times), bool)
        at = np.searchsorted(self._lows, times, "right") - 1
        return (at < 0) | (times >= self._highs[at])

    def _outside(self, times: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which times lie in no chunk that is there or is to be made by this run."""
        return self._no_chunk(times) & ~np.isin(times // self._interval, list(self._admitted))

    def _closed(self, times: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which times lie in no chunk that is there, and in one that this run may not make."""
        with self._lock:
            return self._no_chunk(times) & np.isin(times // self._interval, list(self._refused))
