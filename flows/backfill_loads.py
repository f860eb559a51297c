"""The way of a backfill's slices into the table."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from itertools import accumulate

import pyarrow as pa
from prefect.futures import PrefectFuture

from flows.booking import book
from infra.connections import Clients
from infra.errors import SpillwayError, one_line
from tasks.backfill.begin import begin, left_now
from tasks.backfill.chunks import Layout, Openings, reaches_compressed
from tasks.backfill.compress import Compressor
from tasks.backfill.priority import Room
from tasks.backfill.progress import ProgressArtifact
from tasks.backfill.source import Source
from tasks.causes import are_too_many
from tasks.ids import IdRange
from tasks.insert import Path
from tasks.load import Loaded, load
from tasks.progress import Started, announce
from tasks.read import Batch, BatchReader, Limits, read

_NAME = "backfill"
_NO_DAY = 1 << 62
_SLICE_SECONDS = 2  # of the rate: a slice is no larger than what may go in so long


class Loads:
    """Slices of one source after the other, in the order of time; the next is read while others are loaded.

    A source that fails does not keep the others from being loaded. Two may meet in a file: what the other one has
    loaded is left out, and what neither has is looked for once more. What is bad is judged of all sources together.
    """

    def __init__(
        self, clients: Clients, layout: Layout, run: str, rate: float | None, room: Room, compressor: Compressor
    ) -> None:
        self._clients = clients
        self._layout = layout
        self._run = run
        self._rate = rate
        config = clients.settings
        most = config.batch_rows if rate is None else round(rate * _SLICE_SECONDS)
        self._limits = Limits(max(1, min(config.batch_rows, most)), config.batch_bytes)
        self._openings = Openings(layout)
        self._open = Path()  # of slices without rows for compressed chunks
        self._compressor = compressor
        self._ahead = _NO_DAY  # the first day of the sources that come after
        self._room = room
        self._reading: Source | None = None
        self._loading: deque[tuple[PrefectFuture[Loaded | None], Batch, Source, float]] = deque()
        self._took = 0.0  # the last load, in seconds
        self._artifact = ProgressArtifact(0)
        self._next = time.monotonic()
        self._total = self._quarantined = 0

    @property
    def too_many_bad(self) -> bool:
        """Whether so many rows went to quarantine that it is too many whatever becomes of the rest."""
        return are_too_many(self._quarantined, self._total, self._clients.settings.max_bad_share)

    def run(self, sources: list[Source]) -> None:
        """Load all that is left of the sources. What goes wrong with one of them is put down in it."""
        self._total = sum(source.left for source in sources)
        self._artifact = ProgressArtifact(self._total)
        announce(Started(_NAME, self._total))
        begin(self._clients, sources)
        left = [(source, source.gaps) for source in sources]
        while left and not self.too_many_bad:
            self._submit_all(left)
            met = [source for source, _ in left if source.met and not source.error]
            gaps = left_now(self._clients, met) if met else []
            left = [(source, found) for source, found in zip(met, gaps, strict=True) if found]
        self._artifact.finish()

    def _submit_all(self, left: Sequence[tuple[Source, Sequence[IdRange]]]) -> None:
        firsts = [min(source.days, default=_NO_DAY) for source, _ in left]
        aheads = [*accumulate(reversed(firsts[1:]), min, initial=_NO_DAY)][::-1]
        for (source, gaps), self._ahead in zip(left, aheads, strict=True):
            source.met = False
            try:
                self._submit(source, gaps)
            except SpillwayError as error:
                source.error = source.error or one_line(error)
        self.finish()

    def finish(self) -> None:
        """Wait for what is under way, after a cancellation too: its connections are closed then."""
        while self._loading:
            self._finish_oldest()

    def _submit(self, source: Source, gaps: Sequence[IdRange]) -> None:
        """Read the gaps of a source and hand them to the loads."""
        self._reading = source
        reader = source.reader(gaps, self._limits)
        while (
            not (source.met or source.error or self.too_many_bad) and (batch := self._read(reader, source)) is not None
        ):
            self._pace(batch.read)
            merges = reaches_compressed(self._layout, batch.min_time, batch.max_time)
            path = Path(merge=True) if merges else self._open
            while len(self._loading) >= self._room.loads():
                self._finish_oldest()
            self._room.give_way(self._took)
            opens = self._openings.of(batch.moments)
            future = load.submit(self._clients, batch, self._run, path, opens)
            self._loading.append((future, batch, source, time.monotonic()))

    def _read(self, reader: BatchReader, source: Source) -> Batch | None:
        """Of a stream as a step, since Redis may be away for a moment; of a file, which is here, at once."""
        return read(self._clients, reader) if source.scanned is None else reader.read()

    def _pace(self, rows: int) -> None:
        """Wait until so many more rows are within the rate."""
        if self._rate is None:
            return
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = max(self._next, time.monotonic()) + rows / self._rate

    def _finish_oldest(self) -> None:
        future, batch, source, began = self._loading.popleft()
        loaded = book(future, batch, source, _NAME)
        self._took = time.monotonic() - began
        # Its blocks are of many sizes: what lies free between others comes to 100 MB in 5,000,000 rows.
        pa.default_memory_pool().release_unused()
        if loaded is not None:
            self._artifact.advance(loaded.read)
            self._quarantined += loaded.quarantined
        if source is self._reading and not source.error and batch.min_time is not None and self._room.loads() > 1:
            # Slices of a file are in the order of days: what is left of it begins with this one. Those of a stream are
            # nearly: what comes late is compressed at the end.
            self._compressor.passed(min(batch.min_time // 1000, self._ahead))
