"""The small streams of a drain, in groups that are loaded at the same time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from tasks.columns.row_layout import RowLayout
from tasks.ledger.drain_report import DrainResult
from tasks.streams.pages import AbsenceRecord
from tasks.table.new_chunks import NewChunkLimit
from tasks.table.small_streams import MOST_ENTRIES, SmallLoads, SmallStreams, drain_small_streams

_MOST_STREAMS = 100  # of a group: each holds a lock until its end
_GROUP_ENTRIES = 50_000
_SHARE_OF_TIME = 0.5  # of a time limit: the rest is for large streams


@dataclass(frozen=True)
class SmallGroup:
    """The names of small streams that have one layout."""

    names: Sequence[str]
    layout: RowLayout


@step("drain small streams", retries=0)
def drain_small(
    clients: Clients,
    groups: Sequence[SmallGroup],
    new_chunks: NewChunkLimit,
    absence: AbsenceRecord,
    time_limit: float | None,
) -> SmallLoads:
    """Drain the plain ones of the small streams; the others are left to `DrainLoads`.

    `time_limit`: seconds of the run.
    """
    config = clients.settings
    window = TimeWindow.around_now(config.max_age_days, config.max_ahead_days)
    end = None if time_limit is None else time.monotonic() + _SHARE_OF_TIME * time_limit
    run = run_name("drain")
    results: dict[str, DrainResult] = {}
    warnings: list[str] = []

    def drain(group: SmallGroup) -> SmallLoads:
        if end is not None and time.monotonic() >= end:
            return SmallLoads()
        marked = SmallStreams(group.names, group.layout, f"{run} {uuid4()}")
        try:
            return drain_small_streams(clients, marked, window, new_chunks, absence)
        except SpillwayError as error:
            run_logger().info("small streams: %s; drained one by one", one_line(error))
            return SmallLoads()

    with Workers(clients, config.parallel_loads) as workers:
        for loaded in [workers.submit(drain, group) for group in groups]:
            warnings += loaded.result().warnings
            for name, result in loaded.result().results.items():
                emit(Started(name, result.read))
                emit(Advanced(name, result.read))
                results[name] = result
    return SmallLoads(results, tuple(warnings))


def small_groups(streams: Sequence[DrainedStream], waiting: Mapping[str, int]) -> list[SmallGroup]:
    """The small ones of some streams, in groups of at least two.

    `waiting`: by stream, how many entries it has that are not drained, if it is settled (`IdleStreams`).
    """
    by_layout: dict[int, list[DrainedStream]] = {}
    for stream in streams:
        plain = not stream.layout.routes and stream.layout.mapping.each is None
        if plain and 0 < waiting.get(stream.name, 0) <= MOST_ENTRIES:
            by_layout.setdefault(id(stream.layout), []).append(stream)
    found: list[SmallGroup] = []
    for alike in by_layout.values():
        names: list[str] = []
        total = 0
        for stream in alike:
            if len(names) == _MOST_STREAMS or total + waiting[stream.name] > _GROUP_ENTRIES:
                found.append(SmallGroup(names, stream.layout))
                names, total = [], 0
            names.append(stream.name)
            total += waiting[stream.name]
        found.append(SmallGroup(names, alike[0].layout))
    return [group for group in found if len(group.names) > 1]  # one stream alone gains nothing
