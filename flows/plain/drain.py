"""Drain streams into the hypertable: everything up to now, exactly once, then stop."""

from __future__ import annotations

import time
from typing import Any

from flows.loads.drain_loads import DrainLoads, drain_streams
from flows.loads.drained_stream import DrainedStream
from flows.loads.shares import Share, drain_in_shares
from flows.loads.small_loads import drain_small, small_groups
from infra.connections.clients import DRAIN, Clients
from infra.display import printable
from infra.errors.exceptions import Unsuccessful
from infra.errors.exit_codes import ExitCode
from infra.mapping.toml import configured_mappings
from infra.settings import settings
from tasks.base.addresses import parse_until
from tasks.base.arrow_memory import use_system_allocator
from tasks.base.run_log import run_logger
from tasks.base.spread import spreads
from tasks.ledger.drain_report import DrainResult, report, summary
from tasks.ledger.idle import find_idle
from tasks.ledger.successes import failure_recorded, record_success
from tasks.preflight.layouts import read_stream_layouts
from tasks.preflight.preflight import preflight
from tasks.streams.pages import AbsenceRecord
from tasks.streams.shard import parse_shard
from tasks.table.new_chunks import NewChunkLimit
from tasks.table.small_streams import SmallLoads


def drain(
    stream: str | list[str] | None = None,
    max_events: int | None = None,
    until: str | None = None,
    time_limit: float | None = None,
    shard: str | None = None,
) -> dict[str, Any]:
    """Drain streams into the events table, exactly once, from where the ledger ends to the tail as it is now.

    Args:
        stream: A name, a pattern such as `events*`, or a list of both. Without it: `SPILLWAY_SCHEDULED_STREAMS`.
        max_events: Read at most this many entries of each stream.
        until: Stop after this entry id or ISO 8601 time.
        time_limit: Read no further batch after this many seconds. The next run continues, with the streams first that
            were loaded longest ago.
        shard: Only a fixed part of the streams, such as `2/8`: the second of eight workers.

    Returns:
        The totals of `tasks.ledger.drain_report.summary`, and `warnings`.

    Raises:
        SpillwayError: What was committed stays, and the next drain continues from there.
        Unsuccessful: Entries were lost or a stream failed. Raised with the totals, after all other streams are drained
            and the report is published.
    """
    began = time.monotonic()
    use_system_allocator()
    config = settings()
    last = parse_until(until) if until else None
    part = parse_shard(shard) if shard else None
    wanted = [stream] if isinstance(stream, str) else stream or list(config.scheduled_streams)
    with Clients(config, DRAIN) as clients, failure_recorded(clients):
        mappings = configured_mappings(config)
        streams, warnings = preflight(clients, wanted, mappings=mappings)
        streams = [name for name in streams if part is None or name in part]
        layouts = read_stream_layouts(clients, {name: mappings.for_stream(name) for name in streams})
        absence = AbsenceRecord()
        tables = {name: layout.table.regclass for name, layout in layouts.items()}
        idle = find_idle(clients, tables, absence)
        busy = [DrainedStream(name, layouts[name]) for name in streams if name not in idle]
        new_chunks = NewChunkLimit(config.max_new_chunks)
        small = SmallLoads()
        groups = small_groups(busy, idle.waiting) if max_events is None and last is None else []
        if groups:
            small = drain_small(clients, groups, new_chunks, absence, time_limit)
            busy = [one for one in busy if one.name not in small.results]
        if busy and spreads(config) and max_events is None:
            share = drain_in_shares([one.name for one in busy], last, time_limit, config.drain_workers)
        else:
            loads = DrainLoads(clients, max_events, last, absence, new_chunks, time_limit)
            share = Share(drain_streams(loads, busy) if busy else [], loads.warnings)
        drained = iter(share.results)
        results = [
            DrainResult(name, trimmed=idle.trimmed[name], table=layouts[name].table.display_name)
            if name in idle
            else small.results.get(name) or next(drained)
            for name in streams
        ]
        warnings += [*idle.warnings, *small.warnings, *share.warnings, *new_chunks.warnings()]
        for warning in warnings:
            run_logger().warning(printable(warning))
        if warnings or any(one.read or one.lost or one.error for one in results):
            report(results, warnings)
        totals = summary(results, time.monotonic() - began) | {"warnings": warnings}
        problems = totals["losses"] + [one.error for one in results if one.error]
        if problems:
            raise Unsuccessful("; ".join(problems), totals, ExitCode.LOST if totals["losses"] else ExitCode.FAILED)
        record_success(clients, "drain")
    return totals
