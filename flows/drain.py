"""Drain streams into the hypertable: everything up to now, exactly once, then stop."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from typing import Any
from uuid import uuid4

from prefect import flow, get_run_logger
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from infra.connections import Clients
from infra.errors import SpillwayError, Terminal, one_line
from infra.mapping import Mapping, load_mappings
from infra.settings import settings
from tasks.columns.decode import Window
from tasks.ids import parse_until
from tasks.load import Loaded, Path, load
from tasks.plan import Plan, plan
from tasks.preflight import check_mapping, preflight
from tasks.progress import Advanced, Started, announce
from tasks.read import Batch, Limits, Reader, read
from tasks.report import Books, report, summary
from tasks.settle import settle_stream

_SAMPLE_ENTRIES = 1_000
_RUNNER: Any = ThreadPoolTaskRunner(max_workers=settings().parallel_loads)


@flow(name="drain", persist_result=False, task_runner=_RUNNER)
def drain(
    stream: str | list[str] = "events*", max_events: int | None = None, until: str | None = None
) -> dict[str, Any]:
    """Drain every stream that `stream` stands for, from where the ledger ends to the tail that it has now.

    `stream`: a name, a pattern (`events*`), or a list of both. `max_events`: read no more entries of each stream.
    `until`: go no further than this entry id or ISO 8601 time. Returns the books; see `tasks.report.summary`.
    Raises `SpillwayError`; what was committed until then stays, and the next drain goes on from there.
    """
    began = time.monotonic()
    config = settings()
    logger = get_run_logger()
    mappings = load_mappings(config.mappings)
    last = parse_until(until) if until else None
    wanted = [stream] if isinstance(stream, str) else stream
    with Clients(config) as clients:
        streams, warnings = preflight(clients, wanted)
        one_drain = _Drain(clients, max_events, last)
        books = []
        for name in streams:
            books.append(_guarded(one_drain, name, mappings.of(name)))
        warnings += one_drain.warnings
        for warning in warnings:
            logger.warning(warning)
        if books:
            report(books, warnings)
    failed = [b.error for b in books if b.error]
    if failed:
        raise Terminal("; ".join(failed))
    return summary(books, time.monotonic() - began) | {"warnings": warnings}


def _guarded(one_drain: _Drain, stream: str, mapping: Mapping | None) -> Books:
    """One stream that fails does not keep the others from being drained."""
    try:
        return one_drain.run(stream, mapping)
    except SpillwayError as error:
        return replace(one_drain.books(stream), error=one_line(error))


class _Drain:
    """One run's way through its streams, one after the other."""

    def __init__(self, clients: Clients, max_events: int | None, until: int | None) -> None:
        self._clients = clients
        self._max_events = max_events
        self._until = until
        self._run = f"{flow_run.name or 'drain'} {uuid4()}"
        self._began = time.monotonic()
        self._loaded: list[Loaded] = []
        self.warnings: list[str] = []

    def books(self, stream: str) -> Books:
        """What is committed so far of the stream that is being drained."""
        names = ("read", "inserted", "duplicates", "quarantined", "bytes")
        counts = {name: sum(getattr(loaded, name) for loaded in self._loaded) for name in names}
        return Books(stream, **counts, seconds=time.monotonic() - self._began)

    def run(self, stream: str, mapping: Mapping | None) -> Books:
        self._began = time.monotonic()
        self._loaded = []
        config = self._clients.settings
        planned = plan(self._clients, stream, self._until)
        announce(Started(stream, min(planned.lag, self._max_events or planned.lag)))
        window = Window.around_now(config.max_age_days, config.max_ahead_days)
        limits = Limits(config.batch_rows, config.batch_bytes)
        while planned.gaps:
            left = None if self._max_events is None else self._max_events - self.books(stream).read
            reader = Reader(self._clients.redis, stream, planned.gaps, limits, mapping, window, left)
            if mapping is not None and planned.fresh:
                with self._clients.explained(f"read {stream}"):
                    check_mapping(stream, mapping, reader.sample(_SAMPLE_ENTRIES))
            if not self._pump(reader):
                break
            planned = self._plan_again(planned)
        settled = settle_stream(self._clients, planned)
        self.warnings += settled.warnings
        return replace(self.books(stream), lost=settled.lost, lag=settled.lag)

    def _plan_again(self, planned: Plan) -> Plan:
        """What is left up to the same frozen tail, after another run has taken a part of it."""
        return replace(plan(self._clients, planned.stream, planned.upto), tail=planned.tail, upto=planned.upto)

    def _pump(self, reader: Reader) -> bool:
        """Read and load until all is read. Returns whether another run has met us on the way.

        The next batch is read while others are loaded; one more than is loaded waits, so that no connection idles.
        """
        path = Path()
        loading: deque[tuple[PrefectFuture[Loaded | None], Batch]] = deque()
        met = False
        try:
            while not met and (batch := read(self._clients, reader)) is not None:
                loading.append((load.submit(self._clients, batch, self._run, path), batch))
                if len(loading) > self._clients.settings.parallel_loads:
                    met |= not self._finish(*loading.popleft())
        finally:
            # After an error, too, the others are waited for: what they commit belongs in the books.
            errors = []
            while loading:
                try:
                    met |= not self._finish(*loading.popleft())
                except SpillwayError as error:
                    errors.append(error)
        if errors:
            raise errors[0]
        return met

    def _finish(self, future: PrefectFuture[Loaded | None], batch: Batch) -> bool:
        """Wait for a load and book it. Returns whether it was ours to book."""
        try:
            loaded = future.result()
        finally:
            batch.release()
        if loaded is None:
            return False
        self._loaded.append(loaded)
        announce(Advanced(batch.stream, loaded.read))
        return True
