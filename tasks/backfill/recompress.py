"""Compress the chunks that a backfill writes to: those that are complete while it loads, and the rest at its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType

from infra.connections.clients import Clients
from infra.errors.exceptions import SpillwayError
from infra.tables.table import Table
from tasks.backfill.chunk_map import chunks_due
from tasks.backfill.source import BackfillSource
from tasks.backfill.throttle import MOST_PARALLEL, LoadThrottle
from tasks.base.step import step
from tasks.base.stopping import is_stopping
from tasks.base.workers import Workers
from tasks.maintain.compression import columnstore_sql
from tasks.maintain.contention import ChunkBusy, ChunkGone
from tasks.maintain.recompression import Recompression, recompress_chunk

DaysOfTables = Sequence[tuple[Table, Sequence[int]]]  # days that rows are loaded for, by table

_PORTIONS = 2  # for each connection, so that all of them finish at about the same time
_LOADS_BETWEEN = 4  # loads between two looks for complete chunks


def compress_chunks(clients: Clients, due: Sequence[Recompression]) -> int:
    """Compress chunks one by one, until the run is being stopped. Returns the number compressed.

    A chunk that stays in use is left to `spillway maintain`. Raises `SpillwayError`.
    """
    done = 0
    with clients.translate_errors("compress"), clients.postgres() as connection:
        columnstore = columnstore_sql(connection)
        for recompression in due:
            if is_stopping():
                break
            with suppress(ChunkBusy, ChunkGone):
                recompress_chunk(connection, recompression, columnstore)
                done += 1
    return done


@step("compress", retries=1)
def compress_portion(clients: Clients, portion: Sequence[Recompression]) -> int:
    """`compress_chunks`, as a task."""
    return compress_chunks(clients, portion)


@step("compress complete chunks", retries=1)
def compress_complete(clients: Clients, days: DaysOfTables, before: int) -> int:
    """Compress the chunks of `days` that end by the day `before`; see `compress_chunks`."""
    return compress_chunks(clients, _due(clients, days, before))


@step("chunks to compress")
def find_to_compress(clients: Clients, days: DaysOfTables) -> list[Recompression]:
    """`chunks_due` of all tables, as a task."""
    return _due(clients, days)


def _due(clients: Clients, days: DaysOfTables, before: int | None = None) -> list[Recompression]:
    return [one for table, its_days in days for one in chunks_due(clients, table, its_days, before)]


def _days_of(table: Table, sources: Sequence[BackfillSource]) -> set[int]:
    return {day for source in sources if table.regclass in source.tables for day in source.all_days if day}


class Compressor:
    """Compresses chunks during a backfill.

    Loading waits for the disk and compressing for the processor. So a chunk is compressed as soon as all its rows are
    loaded, while other rows are loaded; the rest is compressed at the end, by several connections. `done`: the number
    of chunks compressed.
    """

    def __init__(self, clients: Clients, tables: Sequence[Table], sources: Sequence[BackfillSource]) -> None:
        self._clients = clients
        self._days = [(table, sorted(_days_of(table, sources))) for table in tables]
        self._during_loads: Future[int] | None = None
        self._running: list[tuple[Future[int], float]] = []
        self._workers = Workers(clients, MOST_PARALLEL)
        self._loads = 0
        self.done = 0

    def passed(self, day: int) -> None:
        """One more load has ended, and no rows before `day` (in ms since 1970) remain to be loaded."""
        self._loads += 1
        is_busy = self._during_loads is not None and not self._during_loads.done()
        if self._loads < _LOADS_BETWEEN or is_busy:
            return
        self._loads = 0
        self._collect()
        days = [(table, [d for d in its_days if d < day]) for table, its_days in self._days]
        self._during_loads = self._workers.submit(compress_complete, self._clients, days, day)

    def finish(self, throttle: LoadThrottle) -> None:
        """Compress all remaining chunks, as fast as the throttle allows. Raises `SpillwayError`."""
        self._collect()
        if not any(days for _, days in self._days):
            return
        due = find_to_compress(self._clients, self._days)
        count = throttle.parallel * _PORTIONS
        portions = [due[start::count] for start in range(count)]
        waiting = [portion for portion in portions if portion]
        while waiting or self._running:
            while waiting and len(self._running) < throttle.loads():
                future = self._workers.submit(compress_portion, self._clients, waiting.pop())
                self._running.append((future, time.monotonic()))
            future, began = self._running[0]
            self.done += future.result()
            del self._running[0]
            if waiting:
                throttle.give_way(time.monotonic() - began)

    def __enter__(self) -> Compressor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Start no further chunk, and end those in progress, as `Workers` does."""
        self._workers.stopping.set()
        self._workers.__exit__(kind, error, traceback)

    def _collect(self) -> None:
        """Wait for the chunks that are compressed during the loads. `finish` tries again what failed there."""
        if self._during_loads is not None:
            with suppress(SpillwayError):
                self.done += self._during_loads.result()
            self._during_loads = None


@step("compress the rest", retries=0)
def compress_rest(compressor: Compressor, throttle: LoadThrottle) -> None:
    """`Compressor.finish`, as a task."""
    compressor.finish(throttle)
