"""The loads of a drain: several at the same time, of streams that take turns."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from uuid import uuid4

from flows.loads.collect_load import collect_load
from flows.loads.drained_stream import DrainedPart, DrainedStream
from infra.connections.clients import Clients
from infra.errors.exceptions import SpillwayError
from infra.errors.redact import one_line
from infra.json_lines import about_stream
from tasks.base.addresses import IdRange
from tasks.base.progress import Started, emit
from tasks.base.run_log import run_name
from tasks.base.step import step
from tasks.base.workers import Workers
from tasks.columns.batch import Batch, BatchLimits
from tasks.columns.decode import TimeWindow
from tasks.ledger.claims import Claims, parts_of, still_undrained
from tasks.ledger.drain_report import DrainResult
from tasks.ledger.plan import DrainPlan, plan
from tasks.ledger.settle import settle_stream
from tasks.ledger.waiting import longest_waiting
from tasks.preflight.stream_sample import check_sample
from tasks.streams.pages import PAGE_LIMITS, AbsenceRecord
from tasks.streams.reader import Reader, read
from tasks.streams.tail import Tail
from tasks.table.insert import InsertRoute
from tasks.table.load import LoadResult, load
from tasks.table.new_chunks import NewChunkLimit

_PAUSE_SECONDS = 0.2  # before a stream that other runs work on is planned again


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
        new_chunks: NewChunkLimit,
        time_limit: float | None = None,
    ) -> None:
        self._clients = clients
        self._max_events = max_events
        self._until = until
        self._run = f"{run_name('drain')} {uuid4()}"
        self._workers = Workers(clients, clients.settings.parallel_loads)
        self._loading: deque[tuple[Future[LoadResult | None], Batch, DrainedStream, DrainedPart]] = deque()
        self._to_read: deque[DrainedStream] = deque()
        self._blocked: list[DrainedStream] = []
        self._claims = Claims(clients)
        self._new_chunks = new_chunks
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
        with closing(self._claims), self._workers:
            while self._to_read or self._loading or self._blocked:
                if self._to_read:
                    stream = self._to_read.popleft()
                    with about_stream(stream.name):
                        self._take_turn(stream)
                elif self._loading:
                    self._finish()
                else:
                    time.sleep(_PAUSE_SECONDS)
                    self._to_read.extend(self._blocked)
                    self._blocked.clear()
        self.warnings += self._clients.replica_warnings
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
                self._unfinished += 1
                stream.overtaken = False
                stream.parts.clear()
            elif self._read_batches(stream):
                self._to_read.append(stream)
                return
        except SpillwayError as error:
            stream.error = stream.error or one_line(error)
        self._end_part(stream)
        stream.all_read = True
        self._close(stream)

    def _read_batches(self, stream: DrainedStream) -> bool:
        """Read a stream and submit its loads. Returns whether the rest waits for its next turn."""
        stream.overtaken = stream.overtaken and not stream.all_read  # otherwise it is planned again
        while not (stream.overtaken or stream.error):
            if stream.part is None and not self._begin_part(stream):
                return False
            part = stream.part
            assert part is not None
            batch = read(self._clients, part.reader)
            if batch is None:
                self._end_part(stream)
                continue
            self._any_read = True
            is_large = self._is_large(batch)
            future = self._workers.submit(load, self._clients, batch, self._run, stream.route, (), self._new_chunks)
            self._loading.append((future, batch, stream, part))
            del batch  # it is freed when it is loaded, not when the next one is read
            stream.loading += 1
            part.loading += 1
            while self._loading and self._is_full():
                self._finish()
            more = not part.reader.at_end or stream.parts
            if more and ((is_large and self._to_read) or self._out_of_time()):
                return True
        return False

    def _begin_part(self, stream: DrainedStream) -> bool:
        """Claim a part of the stream and make a reader of it. Returns False if there is none to claim."""
        if planned := stream.planned is None or stream.all_read:
            stream.all_read = stream.blocked = False
            self._plan(stream)
        for claim in list(stream.parts):
            if not self._claims.take(claim):
                continue
            stream.parts.remove(claim)
            # Another run may have drained it since it was planned.
            remains = claim if planned else still_undrained(self._clients, stream.name, claim)
            if remains is not None:
                assert stream.planned is not None
                reader = self._reader(stream, remains.gaps, stream.planned.tail, starts_small=planned)
                stream.part = DrainedPart(claim, reader)
                stream.route = InsertRoute.STRAIGHT if planned else stream.route
                return True
            self._claims.release(claim)
        stream.blocked = planned and bool(stream.parts)
        return False

    def _end_part(self, stream: DrainedStream) -> None:
        """Nothing more is read of the part. Its claim is held until its batches are loaded."""
        part, stream.part = stream.part, None
        if part is not None and not part.loading:
            self._claims.release(part.claim)

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
        return (
            len(self._loading) > config.parallel_loads
            or sum(batch.bytes for _, batch, *_ in self._loading) > most_bytes
        )

    def _plan(self, stream: DrainedStream) -> None:
        """Plan a stream up to its tail, or for the second time, what remains up to the same frozen tail."""
        table = stream.layout.table.regclass
        if (before := stream.planned) is None:
            stream.began = time.monotonic()
            stream.planned = self._checked_plan(stream)
        else:
            again = plan(self._clients, stream.name, before.upto, absence=self._absence, table=table)
            stream.planned = replace(again, tail=before.tail, upto=before.upto)
        # If the number of entries is limited, the oldest ones come first.
        stream.parts = parts_of(
            stream.planned, None if self._max_events is not None else self._clients.settings.batch_rows
        )

    def _checked_plan(self, stream: DrainedStream) -> DrainPlan:
        """The first plan of a stream. A new one is registered only after the checks: nothing is written about a
        refused stream."""
        table = stream.layout.table.regclass
        planned = plan(self._clients, stream.name, self._until, register=False, absence=self._absence, table=table)
        emit(Started(stream.name, min(planned.lag, self._max_events or planned.lag)))
        if planned.fresh and planned.gaps:
            reader = self._reader(stream, planned.gaps, planned.tail, starts_small=True)
            self.warnings += check_sample(self._clients, reader, stream.layout, planned.upto)
        if planned.known:
            return planned
        return plan(self._clients, stream.name, self._until, absence=self._absence, table=table)

    def _reader(self, stream: DrainedStream, gaps: Sequence[IdRange], tail: Tail, starts_small: bool) -> Reader:
        config = self._clients.settings
        window = TimeWindow.around_now(config.max_age_days, config.max_ahead_days)
        limits = BatchLimits(config.batch_rows, config.batch_bytes)
        remaining = None if self._max_events is None else self._max_events - stream.read
        return Reader(
            self._clients.redis, stream.name, gaps, tail, limits, stream.layout, window, remaining,
            absence=self._absence, page_limits=replace(PAGE_LIMITS, max_entry=config.max_entry_bytes),
            starts_small=starts_small, replica=self._clients.replica,
        )  # fmt: skip

    def _finish(self) -> None:
        """Wait for the oldest load and add it to its stream."""
        future, batch, stream, part = self._loading.popleft()
        loaded = collect_load(future, batch, stream, stream.name, self._clients.settings.max_bad_share)
        if loaded is not None:
            stream.route = loaded.next_route
        stream.loading -= 1
        part.loading -= 1
        if not part.loading and part is not stream.part:
            self._claims.release(part.claim)
        self._claims.keep()
        self._close(stream)

    def _close(self, stream: DrainedStream) -> None:
        """Settle a stream once it is loaded completely. What other runs have claimed or drained is planned again.

        If they still work on it, a run with a time limit leaves it to them, and another one waits for them.
        """
        if stream.loading or not stream.all_read:
            return
        if (stream.overtaken or stream.parts) and not stream.error:
            if not stream.blocked:
                self._to_read.append(stream)
                return
            if self._time_limit is None:
                self._blocked.append(stream)
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
