"""The small streams of a drain, in groups that are loaded at the same time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from uuid import uuid4

from flows.loads.drained_stream import DrainedStream
from infra.connections.clients import Clients
from infra.errors.exceptions import SpillwayError
from infra.errors.redact import one_line
from tasks.base.progress import Advanced, Started, emit
from tasks.base.run_log import run_logger, run_name
from tasks.base.step import step
from tasks.base.workers import Workers
from tasks.columns.decode import TimeWindow
from tasks.ledger.drain_report import DrainResult
from tasks.streams.pages import AbsenceRecord
from tasks.table.new_chunks import NewChunkLimit
from tasks.table.small_streams import MOST_ENTRIES, SmallLoads, SmallStreams, drain_small_streams

_MOST_STREAMS = 100  # of a group: each holds a lock until its end
_GROUP_ENTRIES = 50_000
_SHARE_OF_TIME = 0.5  # of a time limit: the rest is for large streams


@step("drain small streams", retries=0)
def drain_small(
    clients: Clients,
    streams: Sequence[DrainedStream],
    waiting: Mapping[str, int],
    new_chunks: NewChunkLimit,
    absence: AbsenceRecord,
    time_limit: float | None,
) -> SmallLoads:
    """Drain the plain ones of the small streams; the others are left to `DrainLoads`.

    `waiting`: by stream, how many entries it has that are not drained, if it is settled (`IdleStreams`). `time_limit`:
    seconds of the run.
    """
    config = clients.settings
    window = TimeWindow.around_now(config.max_age_days, config.max_ahead_days)
    end = None if time_limit is None else time.monotonic() + _SHARE_OF_TIME * time_limit
    run = run_name("drain")
    results: dict[str, DrainResult] = {}
    warnings: list[str] = []

    def drain(names: Sequence[str], first: DrainedStream) -> SmallLoads:
        if end is not None and time.monotonic() >= end:
            return SmallLoads()
        group = SmallStreams(names, first.layout, f"{run} {uuid4()}")
        try:
            return drain_small_streams(clients, group, window, new_chunks, absence)
        except SpillwayError as error:
            run_logger().info("small streams: %s; drained one by one", one_line(error))
            return SmallLoads()

    with Workers(config.parallel_loads) as workers:
        for loaded in [workers.submit(drain, names, first) for names, first in _groups(streams, waiting)]:
            warnings += loaded.result().warnings
            for name, result in loaded.result().results.items():
                emit(Started(name, result.read))
                emit(Advanced(name, result.read))
                results[name] = result
    return SmallLoads(results, tuple(warnings))


def _groups(streams: Sequence[DrainedStream], waiting: Mapping[str, int]) -> Iterator[tuple[list[str], DrainedStream]]:
    """The names of the streams of each group, and one of its streams: all have the same layout."""
    open_groups: dict[int, tuple[list[str], DrainedStream, int]] = {}
    for stream in streams:
        entries = waiting.get(stream.name, 0)
        if not 0 < entries <= MOST_ENTRIES or stream.layout.routes or stream.layout.mapping.each is not None:
            continue
        names, first, total = open_groups.pop(id(stream.layout), ([], stream, 0))
        if len(names) == _MOST_STREAMS or total + entries > _GROUP_ENTRIES:
            yield names, first
            names, first, total = [], stream, 0
        open_groups[id(stream.layout)] = ([*names, stream.name], first, total + entries)
    for names, first, _ in open_groups.values():
        if len(names) > 1:  # one alone gains nothing
            yield names, first
