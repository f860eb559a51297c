"""A drain that several workers share: each gets the names of all streams, and takes what no other has claimed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flows.loads.drain_loads import DrainLoads
from flows.loads.drained_stream import DrainedStream
from infra.connections.clients import DRAIN, Clients
from infra.mapping.toml import configured_mappings
from infra.settings import settings
from tasks.base.arrow_memory import use_system_allocator
from tasks.base.spread import spread
from tasks.base.step import step
from tasks.ledger.drain_report import DrainResult
from tasks.preflight.layouts import read_stream_layouts
from tasks.streams.pages import AbsenceRecord
from tasks.table.new_chunks import NewChunkLimit


@dataclass(frozen=True)
class Share:
    """What one worker has drained. `results`: of each stream, in the order of the names."""

    results: list[DrainResult]
    warnings: list[str]


@step("drain a share", retries=0)
def drain_share(streams: list[str], until: int | None, time_limit: float | None) -> Share:
    """Drain what no other worker has claimed. A worker has its own settings and connections.

    `streams`: names in Redis. `until`: the last id. `time_limit`: seconds. Raises `SpillwayError`.
    """
    use_system_allocator()
    config = settings()
    mappings = configured_mappings(config)
    with Clients(config, DRAIN) as clients:
        layouts = read_stream_layouts(clients, {name: mappings.for_stream(name) for name in streams})
        new_chunks = NewChunkLimit(config.max_new_chunks)
        loads = DrainLoads(clients, None, until, AbsenceRecord(), new_chunks, time_limit)
        results = loads.run([DrainedStream(name, layouts[name]) for name in streams])
    return Share(results, [*loads.warnings, *new_chunks.warnings()])


def drain_in_shares(streams: list[str], until: int | None, time_limit: float | None, count: int) -> Share:
    """Drain the streams on `count` workers of the task runner. Raises as `spread`."""
    shares = spread(settings(), drain_share, count, streams, until, time_limit)
    results = [join_results(parts) for parts in zip(*(share.results for share in shares), strict=True)]
    return Share(results, list(dict.fromkeys(warning for share in shares for warning in share.warnings)))


def join_results(parts: Sequence[DrainResult]) -> DrainResult:
    """What several workers did with one stream."""
    counts = {
        name: sum(getattr(part, name) for part in parts)
        for name in ("read", "inserted", "duplicates", "quarantined", "lost", "bytes", "trimmed", "compressed")
    }
    rows = [part.rows for part in parts if part.rows is not None]
    return replace(
        parts[0],
        **counts,
        seconds=max(part.seconds for part in parts),
        lag=min(part.lag for part in parts),  # the run that settles last sees everything
        lost_ids=next((part.lost_ids for part in parts if part.lost_ids is not None), None),
        error=next((part.error for part in parts if part.error is not None), None),
        rows=sum(rows) if rows else None,
    )
