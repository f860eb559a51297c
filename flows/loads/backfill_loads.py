"""The loads of a backfill: slices of files or of a stream, in the order of their times."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import pyarrow as pa

from flows.loads.collect_load import collect_load
from infra.connections.clients import Clients
from infra.errors.exceptions import SpillwayError
from infra.errors.redact import one_line
from infra.tables.table import Table
from tasks.backfill.chunk_map import NewChunks, reaches_compressed
from tasks.backfill.progress_artifact import ProgressArtifact
from tasks.backfill.recompress import Compressor
from tasks.backfill.registration import register_sources, remaining_now
from tasks.backfill.source import BackfillSource, SourceResult
from tasks.backfill.target_table import TargetTables
from tasks.backfill.throttle import MOST_PARALLEL, LoadThrottle
from tasks.base.addresses import IdRange
from tasks.base.progress import Started, emit
from tasks.base.step import step
from tasks.base.workers import Workers
from tasks.columns.batch import Batch, BatchLimits, BatchReader
from tasks.columns.routing import TableRows
from tasks.streams.reader import read
from tasks.table.causes import exceeds_bad_share
from tasks.table.insert import InsertRoute
from tasks.table.load import LoadResult, load

_NAME = "backfill"
_NO_DAY = 1 << 62
_SLICE_SECONDS = 2  # with a rate, a slice holds at most the rows of this many seconds


@dataclass
class SourceProgress:
    """What this run has loaded from a source. Only the flow's thread changes it. `overtaken`: see `LoadTarget`."""

    source: BackfillSource
    loaded: list[LoadResult] = field(default_factory=list)
    overtaken: bool = False
    error: str | None = None

    def result(self) -> SourceResult:
        """What has been loaded so far."""
        return SourceResult(self.source, tuple(self.loaded), self.error)


class _Load(NamedTuple):
    """A load that is running. `merges`: it has rows for compressed chunks. `began`: in monotonic seconds."""

    future: Future[LoadResult | None]
    batch: Batch
    progress: SourceProgress
    merges: bool
    began: float


class BackfillLoads:
    """Loads one source after the other, in slices, in the order of time.

    The next slice is read while others are loaded. A source that fails does not stop the others. If another run loads
    the same source, its rows are left out, and what neither run has loaded is planned again. The share of bad rows is
    computed over all sources.
    """

    def __init__(
        self,
        clients: Clients,
        targets: TargetTables,
        run: str,
        rate: float | None,
        throttle: LoadThrottle,
        compressor: Compressor,
    ) -> None:
        self._clients = clients
        self._targets = targets
        self._run = run
        self._rate = rate
        config = clients.settings
        most = config.batch_rows if rate is None else round(rate * _SLICE_SECONDS)
        self._limits = BatchLimits(max(1, min(config.batch_rows, most)), config.batch_bytes)
        self._new_chunks = {name: NewChunks(target.chunks) for name, target in targets.items()}
        self._route = InsertRoute.STRAIGHT  # of the next slice without rows for compressed chunks
        self._compressor = compressor
        self._ahead = _NO_DAY  # the first day of the sources that come after
        self._throttle = throttle
        self._reading: SourceProgress | None = None
        self._loading: deque[_Load] = deque()
        self._workers = Workers(clients, MOST_PARALLEL)
        self._took = 0.0  # the last load, in seconds
        self._artifact = ProgressArtifact(0)
        self._next = time.monotonic()
        self._total = self._quarantined = 0

    @property
    def too_many_bad(self) -> bool:
        """Whether the share of quarantined rows exceeds the limit even if all remaining rows are good."""
        return exceeds_bad_share(self._quarantined, self._total, self._clients.settings.max_bad_share)

    def run(self, sources: list[SourceProgress]) -> None:
        """Load all remaining rows of the sources. Each source's progress has its results, and its first error."""
        self._total = sum(one.source.remaining for one in sources)
        self._artifact = ProgressArtifact(self._total)
        emit(Started(_NAME, self._total))
        register_sources(self._clients, [one.source for one in sources])
        remaining = [(one, one.source.gaps) for one in sources]
        with self._workers:
            while remaining and not self.too_many_bad:
                self._submit_all(remaining)
                overtaken = [one for one, _ in remaining if one.overtaken and not one.error]
                gaps = remaining_now(self._clients, [one.source for one in overtaken]) if overtaken else []
                remaining = [(one, found) for one, found in zip(overtaken, gaps, strict=True) if found]
        self._artifact.finish()

    def _submit_all(self, remaining: Sequence[tuple[SourceProgress, Sequence[IdRange]]]) -> None:
        firsts = [min(one.source.days, default=_NO_DAY) for one, _ in remaining]
        aheads = [*accumulate(reversed(firsts[1:]), min, initial=_NO_DAY)][::-1]
        for (one, gaps), self._ahead in zip(remaining, aheads, strict=True):
            one.overtaken = False
            try:
                self._submit(one, gaps)
            except SpillwayError as error:
                one.error = one.error or one_line(error)
        self._finish()

    def _finish(self) -> None:
        """Wait for the running loads."""
        while self._loading:
            self._finish_oldest()

    def _submit(self, progress: SourceProgress, gaps: Sequence[IdRange]) -> None:
        """Read the gaps of a source and submit their loads."""
        self._reading = progress
        reader = progress.source.open_reader(gaps, self._limits)
        while (
            not (progress.overtaken or progress.error or self.too_many_bad)
            and (batch := self._read(reader, progress.source)) is not None
        ):
            self._pace(batch.read)
            merges = any(self._reaches_compressed(rows) for rows in batch.tables)
            while len(self._loading) >= self._throttle.loads():
                self._finish_oldest()
            self._throttle.give_way(self._took)
            opened = [self._unopened(rows) for rows in batch.tables]
            route = InsertRoute.MERGE if merges else self._route
            future = self._workers.submit(load, self._clients, batch, self._run, route, opened)
            self._loading.append(_Load(future, batch, progress, merges, time.monotonic()))
            del batch  # it is freed when it is loaded, not when the next one is read

    def _reaches_compressed(self, rows: TableRows) -> bool:
        chunks = self._targets[rows.layout.table.regclass].chunks
        return reaches_compressed(chunks, rows.encoded.min_time, rows.encoded.max_time)

    def _unopened(self, rows: TableRows) -> tuple[Table, Sequence[int]]:
        table = rows.layout.table
        return table, self._new_chunks[table.regclass].of(rows.encoded.hourly_times)

    def _read(self, reader: BatchReader, source: BackfillSource) -> Batch | None:
        """Read a stream as a step, which is retried if Redis is away; read a file, which is local, directly."""
        return read(self._clients, reader) if source.file is None else reader.read()

    def _pace(self, rows: int) -> None:
        """Wait until the rate allows this many more rows."""
        if self._rate is None:
            return
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = max(self._next, time.monotonic()) + rows / self._rate

    def _finish_oldest(self) -> None:
        future, batch, progress, merges, began = self._loading.popleft()
        min_time = batch.encoded.min_time
        loaded = collect_load(future, batch, progress, _NAME)
        self._took = time.monotonic() - began
        del batch
        # Arrow's blocks vary in size: free ones between used ones add up to 100 MB in 5,000,000 rows.
        pa.default_memory_pool().release_unused()
        if loaded is not None:
            if not merges:
                self._route = loaded.next_route
            self._artifact.advance(loaded.read)
            self._quarantined += loaded.quarantined
        if progress is self._reading and not progress.error and min_time is not None and self._throttle.loads() > 1:
            # Slices of a file are ordered by day, so its rest starts on this day or later. Slices of a stream are
            # nearly ordered; late entries are compressed at the end.
            self._compressor.passed(min(min_time // 1000, self._ahead))


@step("load sources", retries=0)
def load_sources(loads: BackfillLoads, sources: list[SourceProgress]) -> None:
    """`BackfillLoads.run`, as a task."""
    loads.run(sources)
