"""The loads of a drain: several at the same time, of streams that take turns."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from uuid import uuid4

from flows.loads.collect_load import collect_load
from infra.connections.clients import Clients
from infra.errors.exceptions import SpillwayError
from infra.errors.redact import one_line
from tasks.base.progress import Started, emit
from tasks.base.run_log import run_name
from tasks.base.step import step
from tasks.base.workers import Workers
from tasks.columns.batch import Batch, BatchLimits
from tasks.columns.decode import TimeWindow
from tasks.columns.row_layout import RowLayout
from tasks.ledger.drain_report import DrainResult
from tasks.ledger.plan import DrainPlan, plan
from tasks.ledger.settle import Settlement, settle_stream
from tasks.ledger.waiting import longest_waiting
from tasks.preflight.stream_sample import check_sample
from tasks.streams.pages import PAGE_LIMITS, AbsenceRecord
from tasks.streams.reader import Reader, read
from tasks.table.insert import InsertRoute
from tasks.table.load import LoadResult, load
from tasks.table.new_chunks import NewChunkLimit


@dataclass
class DrainedStream:
    """The progress of one run through one stream.

    `reader`: reads what remains, None before the first turn and at the end. `loading`: batches that are being loaded.
    `overtaken`: another run has drained a part of the stream.
    """

    name: str
    layout: RowLayout
    planned: DrainPlan | None = None
    reader: Reader | None = None
    loaded: list[LoadResult] = field(default_factory=list)
    loading: int = 0
    route: InsertRoute = InsertRoute.STRAIGHT  # of the next batch
    all_read: bool = False
    overtaken: bool = False
    settled: Settlement | None = None
    error: str | None = None
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0

    @property
    def read(self) -> int:
        return sum(loaded.read for loaded in self.loaded)

    def result(self) -> DrainResult:
        """What this run has committed of the stream."""
        names = ("read", "inserted", "duplicates", "quarantined", "bytes")
        counts = {name: sum(getattr(loaded, name) for loaded in self.loaded) for name in names}
        rows = [loaded.rows for loaded in self.loaded if loaded.rows is not None]
        result = DrainResult(
            self.name,
            **counts,
            seconds=self.ended - self.began,
            error=self.error,
            table=self.layout.table.display_name,
            rows=sum(rows) if rows else None,
            compressed=sum(loaded.compressed for loaded in self.loaded),
        )
        if (settled := self.settled) is None:
            return result
        lost_ids = None if settled.lost_ids is None else str(settled.lost_ids)
        return replace(result, lost=settled.lost, lost_ids=lost_ids, lag=settled.lag, trimmed=settled.trimmed)


class DrainLoads:
    """Reads the streams of one run and loads their batches.

    Streams take turns: a turn ends with a full batch, so no stream waits behind the backlog of another one, and a small
    one needs one turn. The next batch, of the same stream or the next one, is read while others are loaded. One batch
    more than there are connections is submitted, so that no connection is idle. A stream that fails does not stop the
    others. With a `time_limit` (seconds), the streams that were loaded longest ago come first, and after it no further
    batch is read, except a first one.
    """

    def __init__(
        self,
        clients: Clients,
        max_events: int | None,
        until: int | None,
        absence: AbsenceRecord,
        time_limit: float | None = None,
    ) -> None:
        self._clients = clients
        self._max_events = max_events
        self._until = until
        self._run = f"{run_name('drain')} {uuid4()}"
        self._workers = Workers(clients.settings.parallel_loads)
        self._loading: deque[tuple[Future[LoadResult | None], Batch, DrainedStream]] = deque()
        self._to_read: deque[DrainedStream] = deque()
        self._new_chunks = NewChunkLimit(clients.settings.max_new_chunks)
        self._absence = absence
        self._time_limit = time_limit
        self._began = time.monotonic()
        self._any_read = False
        self._unfinished = 0  # streams with entries that were left to the next run
        self.warnings: list[str] = []

    def run(self, streams: list[DrainedStream]) -> list[DrainResult]:
        """Drain the streams, and return the result of each, in the same order."""
        if self._time_limit is None:
            self._to_read.extend(streams)
        else:
            by_name = {stream.name: stream for stream in streams}
            self._to_read.extend(by_name[name] for name in longest_waiting(self._clients, list(by_name)))
        try:
            while self._to_read or self._loading:
                if self._to_read:
                    self._take_turn(self._to_read.popleft())
                else:
                    self._finish()
        finally:
            # Also after a cancellation: a load that is still running needs its connection.
            while self._loading:
                self._finish()
            self._workers.shutdown()
        self.warnings += self._new_chunks.warnings()
        if self._unfinished:
            self.warnings.append(
                f"the time limit of {self._time_limit:g} s ended this run before {self._unfinished} of {len(streams)}"
                " streams were drained to their ends; the next run continues there"
            )
        return [stream.result() for stream in streams]

    def _take_turn(self, stream: DrainedStream) -> None:
        """Read a stream and submit its loads: up to a full batch if other streams wait, otherwise all that remains."""
        try:
            if self._out_of_time():
                stream.overtaken = False
                self._unfinished += 1
            elif self._read_batches(stream):
                self._to_read.append(stream)
                return
        except SpillwayError as error:
            stream.error = stream.error or one_line(error)
        stream.reader, stream.all_read = None, True
        self._close(stream)

    def _read_batches(self, stream: DrainedStream) -> bool:
        """Read a stream and submit its loads. Returns whether the rest waits for its next turn."""
        if stream.reader is None:
            stream.all_read = stream.overtaken = False
            stream.reader, stream.route = self._reader(stream), InsertRoute.STRAIGHT
        while not (stream.overtaken or stream.error) and (batch := read(self._clients, stream.reader)) is not None:
            self._any_read = True
            is_large = self._is_large(batch)
            future = self._workers.submit(load, self._clients, batch, self._run, stream.route, (), self._new_chunks)
            self._loading.append((future, batch, stream))
            del batch  # it is freed when it is loaded, not when the next one is read
            stream.loading += 1
            while self._loading and self._is_full():
                self._finish()
            if not stream.reader.at_end and ((is_large and self._to_read) or self._out_of_time()):
                return True
        return False

    def _out_of_time(self) -> bool:
        """Whether no further batch may be read. The first one always may, so that each run gets on."""
        if self._time_limit is None or not self._any_read:
            return False
        return time.monotonic() - self._began >= self._time_limit

    def _is_large(self, batch: Batch) -> bool:
        """Whether a batch is as large as the settings allow, so that its stream probably has more."""
        config = self._clients.settings
        return batch.read >= config.batch_rows or batch.bytes >= config.batch_bytes

    def _is_full(self) -> bool:
        """Whether no further batch may be read before a load has ended."""
        config = self._clients.settings
        most_bytes = config.batch_bytes * (config.parallel_loads + 2)  # more only if an entry or a page is large
        return len(self._loading) > config.parallel_loads or sum(b.bytes for _, b, _ in self._loading) > most_bytes

    def _reader(self, stream: DrainedStream) -> Reader:
        """Plan a stream, and return a reader of its gaps."""
        table = stream.layout.table.regclass
        if stream.planned is None:
            stream.began = time.monotonic()
            stream.planned = plan(
                self._clients, stream.name, self._until, register=False, absence=self._absence, table=table
            )
            lag = stream.planned.lag
            emit(Started(stream.name, min(lag, self._max_events or lag)))
        else:  # another run has drained a part of it: plan what remains up to the same frozen tail
            before = stream.planned
            again = plan(self._clients, stream.name, before.upto, absence=self._absence, table=table)
            stream.planned = replace(again, tail=before.tail, upto=before.upto)
        reader = self._reader_of(stream, stream.planned)
        if stream.planned.fresh and stream.planned.gaps:
            self.warnings += check_sample(self._clients, reader, stream.layout, stream.planned.upto)
        if not stream.planned.known:  # only after the checks: nothing is written about a refused stream
            stream.planned = plan(self._clients, stream.name, self._until, absence=self._absence, table=table)
            reader = self._reader_of(stream, stream.planned)
        return reader

    def _reader_of(self, stream: DrainedStream, planned: DrainPlan) -> Reader:
        config = self._clients.settings
        window = TimeWindow.around_now(config.max_age_days, config.max_ahead_days)
        limits = BatchLimits(config.batch_rows, config.batch_bytes)
        remaining = None if self._max_events is None else self._max_events - stream.read
        return Reader(
            self._clients.redis, stream.name, planned.gaps, planned.tail, limits, stream.layout, window, remaining,
            absence=self._absence, page_limits=replace(PAGE_LIMITS, max_entry=config.max_entry_bytes),
        )  # fmt: skip

    def _finish(self) -> None:
        """Wait for the oldest load and add it to its stream."""
        future, batch, stream = self._loading.popleft()
        loaded = collect_load(future, batch, stream, stream.name, self._clients.settings.max_bad_share)
        if loaded is not None:
            stream.route = loaded.next_route
        stream.loading -= 1
        self._close(stream)

    def _close(self, stream: DrainedStream) -> None:
        """Settle a stream once it is loaded completely. If another run has drained a part of it, read what remains."""
        if stream.loading or not stream.all_read:
            return
        if stream.overtaken and not stream.error:
            self._to_read.append(stream)
            return
        try:
            if not stream.error and stream.planned is not None:
                stream.settled = settle_stream(self._clients, stream.planned, self._absence)
                self.warnings += stream.settled.warnings
        except SpillwayError as error:
            stream.error = one_line(error)
        stream.ended = time.monotonic()


@step("drain streams", retries=0)
def drain_streams(loads: DrainLoads, streams: list[DrainedStream]) -> list[DrainResult]:
    """`DrainLoads.run`, as a task."""
    return loads.run(streams)
