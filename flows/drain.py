"""Drain streams into the hypertable: everything up to now, exactly once, then stop."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from prefect import flow, get_run_logger
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.loads.collect_load import collect_load
from infra.connections.clients import DRAIN, Clients
from infra.display import printable
from infra.errors.exceptions import SpillwayError, Unsuccessful
from infra.errors.exit_codes import ExitCode
from infra.errors.redact import one_line
from infra.mapping import Mapping, mappings_of
from infra.settings import settings
from tasks.base.addresses import parse_until
from tasks.base.arrow_memory import use_system_allocator
from tasks.base.progress import Started, emit
from tasks.columns.batch import Batch
from tasks.columns.decode import TimeWindow
from tasks.ledger.drain_report import DrainResult, report, summary
from tasks.ledger.plan import DrainPlan, plan
from tasks.ledger.settle import Settlement, settle_stream
from tasks.preflight.preflight import preflight
from tasks.preflight.stream_sample import check_sample
from tasks.streams.pages import AbsenceRecord
from tasks.streams.reader import BatchLimits, Reader, read
from tasks.table.insert import InsertRoute
from tasks.table.load import LoadResult, load
from tasks.table.new_chunks import NewChunkLimit

_RUNNER: Any = ThreadPoolTaskRunner(max_workers=settings().parallel_loads)


# Never again after an error, whatever Prefect's settings say: a second run would not find the losses of the first.
@flow(name="drain", retries=0, persist_result=False, task_runner=_RUNNER)
def drain(
    stream: str | list[str] = "events*", max_events: int | None = None, until: str | None = None
) -> dict[str, Any]:
    """Drain every stream that `stream` stands for, from where the ledger ends to the tail that it has now.

    `stream`: a name, a pattern (`events*`), or a list of both. `max_events`: read no more entries of each stream.
    `until`: go no further than this entry id or ISO 8601 time. Returns the totals of
    `tasks.ledger.drain_report.summary`. Raises `SpillwayError`; what was committed until then stays, and the next drain
    goes on from there. If entries are lost, or a stream failed, that is an `Unsuccessful` with the totals, raised when
    all other streams are drained and the report is published.
    """
    began = time.monotonic()
    use_system_allocator()
    config = settings()
    logger = get_run_logger()
    mappings = mappings_of(config)
    last = parse_until(until) if until else None
    wanted = [stream] if isinstance(stream, str) else stream
    with Clients(config, DRAIN) as clients:
        streams, warnings = preflight(clients, wanted)
        one_drain = _Drain(clients, max_events, last)
        books = one_drain.run([_Stream(name, mappings.of(name)) for name in streams])
        warnings += one_drain.warnings
        for warning in warnings:
            logger.warning(printable(warning))
        if warnings or any(b.read or b.lost or b.error for b in books):
            report(books, warnings)
    result = summary(books, time.monotonic() - began) | {"warnings": warnings}
    if problems := result["losses"] + [b.error for b in books if b.error]:
        raise Unsuccessful("; ".join(problems), result, ExitCode.LOST if result["losses"] else ExitCode.FAILED)
    return result


@dataclass
class _Stream:
    """How far one run is with one stream. `loading`: batches on their way; `overtaken`: another run was here too."""

    name: str
    mapping: Mapping | None
    planned: DrainPlan | None = None
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

    def books(self) -> DrainResult:
        """What is committed."""
        names = ("read", "inserted", "duplicates", "quarantined", "bytes")
        counts = {name: sum(getattr(loaded, name) for loaded in self.loaded) for name in names}
        books = DrainResult(self.name, **counts, seconds=self.ended - self.began, error=self.error)
        if (settled := self.settled) is None:
            return books
        lost_ids = None if settled.lost_ids is None else str(settled.lost_ids)
        return replace(books, lost=settled.lost, lost_ids=lost_ids, lag=settled.lag, trimmed=settled.trimmed)


class _Drain:
    """One run's way through its streams.

    The next batch, of the same stream or the next, is read while others are loaded; one more than is loaded waits, so
    that no connection idles. A stream that fails does not keep the others from being drained.
    """

    def __init__(self, clients: Clients, max_events: int | None, until: int | None) -> None:
        self._clients = clients
        self._max_events = max_events
        self._until = until
        self._run = f"{flow_run.name or 'drain'} {uuid4()}"
        self._loading: deque[tuple[PrefectFuture[LoadResult | None], Batch, _Stream]] = deque()
        self._to_read: deque[_Stream] = deque()
        self._new_chunks = NewChunkLimit(clients.settings.max_new_chunks)
        self._absence = AbsenceRecord()
        self.warnings: list[str] = []

    def run(self, streams: list[_Stream]) -> list[DrainResult]:
        self._to_read.extend(streams)
        try:
            while self._to_read or self._loading:
                if self._to_read:
                    self._read(self._to_read.popleft())
                else:
                    self._finish()
        finally:
            # After a cancellation, too, the loads under way are waited for before their connections are closed.
            while self._loading:
                self._finish()
        self.warnings += self._new_chunks.warnings()
        return [stream.books() for stream in streams]

    def _read(self, stream: _Stream) -> None:
        """Read all that is left of a stream and hand it to the loads."""
        stream.all_read = stream.overtaken = False
        try:
            reader, stream.route = self._reader(stream), InsertRoute.STRAIGHT
            while not (stream.overtaken or stream.error) and (batch := read(self._clients, reader)) is not None:
                future = load.submit(self._clients, batch, self._run, stream.route, (), self._new_chunks)
                self._loading.append((future, batch, stream))
                stream.loading += 1
                while len(self._loading) > self._clients.settings.parallel_loads:
                    self._finish()
        except SpillwayError as error:
            stream.error = stream.error or one_line(error)
        stream.all_read = True
        self._close(stream)

    def _reader(self, stream: _Stream) -> Reader:
        if stream.planned is None:
            stream.began = time.monotonic()
            stream.planned = plan(self._clients, stream.name, self._until, register=False, absence=self._absence)
            lag = stream.planned.lag
            emit(Started(stream.name, min(lag, self._max_events or lag)))
        else:  # what is left up to the same frozen tail, after another run has taken a part of it
            before = stream.planned
            again = plan(self._clients, stream.name, before.upto, absence=self._absence)
            stream.planned = replace(again, tail=before.tail, upto=before.upto)
        reader = self._reader_of(stream, stream.planned)
        if stream.planned.fresh and stream.planned.gaps:
            self.warnings += check_sample(self._clients, reader, stream.mapping, stream.planned.upto)
        if not stream.planned.known:  # only now: of a stream that is refused nothing is written
            stream.planned = plan(self._clients, stream.name, self._until, absence=self._absence)
            reader = self._reader_of(stream, stream.planned)
        return reader

    def _reader_of(self, stream: _Stream, planned: DrainPlan) -> Reader:
        config = self._clients.settings
        window = TimeWindow.around_now(config.max_age_days, config.max_ahead_days)
        limits = BatchLimits(config.batch_rows, config.batch_bytes)
        left = None if self._max_events is None else self._max_events - stream.read
        return Reader(
            self._clients.redis, stream.name, planned.gaps, planned.tail, limits, stream.mapping, window, left,
            absence=self._absence,
        )  # fmt: skip

    def _finish(self) -> None:
        """Wait for the oldest load and book it."""
        future, batch, stream = self._loading.popleft()
        loaded = collect_load(future, batch, stream, stream.name, self._clients.settings.max_bad_share)
        if loaded is not None:
            stream.route = loaded.next_route
        stream.loading -= 1
        self._close(stream)

    def _close(self, stream: _Stream) -> None:
        """Settle a stream of which all is loaded; where another run has taken a part, look what that has left."""
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
