"""Replay entries of the quarantine, exactly once: after the mapping was fixed, or with edited fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal
from uuid import uuid4

from infra.connections.clients import Clients
from infra.display import printable
from infra.errors.exceptions import Unsuccessful, WrongUse
from infra.errors.exit_codes import ExitCode
from infra.mapping.toml import configured_mappings
from infra.settings import settings
from tasks.base.arrow_memory import use_system_allocator
from tasks.base.progress import Advanced, Started, emit
from tasks.base.run_log import run_logger, run_name
from tasks.base.step import step
from tasks.base.workers import Workers
from tasks.files.file_ledger import find_layout
from tasks.preflight.preflight import preflight_clocks, preflight_rights
from tasks.table.insert import InsertRoute
from tasks.table.new_chunks import NewChunkLimit
from tasks.table.quarantine import Selection
from tasks.table.redrive import RedriveResult, ReplayBatch, replay_entries, report_redrive, select
from tasks.table.redrive_dry_run import try_redrive


def redrive(
    stream: str | list[str] | None = None,
    entries: list[str] | None = None,
    kind: Literal["refused", "conflict"] | None = None,
    field: str | None = None,
    set: dict[str, str] | None = None,
    yes: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Replay the entries that wait in the quarantine, each once. Without a selection: all of them.

    Args:
        stream: Only entries of this stream or file, or of these.
        entries: Only entries with these ids, all of the one stream that `stream` names.
        kind: Only entries that were `refused`, or only those in `conflict` with a row.
        field: Only entries with this field at fault.
        set: New texts of entry fields, by field name. The original entry stays on record.
        yes: Allow more new chunks than `SPILLWAY_MAX_NEW_CHUNKS`.
        dry_run: Count what would happen, and roll everything back.

    Returns:
        Counts, tried = inserted + duplicates + still_bad, and `warnings`. For a dry run also `reasons`: how many
        entries wait for each, how many would be rescued, and why the others would not; and `all_reasons`, their number.

    Raises:
        SpillwayError: Entries that were replayed before the error stay replayed.
        Unsuccessful: None of the entries succeeded. Raised with the counts. Never for a dry run.
    """
    names = [name for name in ([stream] if isinstance(stream, str) else stream or []) if name]
    if entries and len(names) != 1:
        raise WrongUse(
            f"redrive: entry ids belong to one stream, found {len(names)} streams; nothing was replayed; name one"
            " (--stream)"
        )
    use_system_allocator()
    config = settings()
    layout_of = partial(find_layout, mappings=configured_mappings(config))
    run = f"{run_name('redrive')} {uuid4()}"
    selection = Selection(tuple(names), tuple(entries or ()), kind, field)
    new_chunks = None if yes else NewChunkLimit(config.max_new_chunks)
    with Clients(config, "quarantine redrive") as clients:
        preflight_rights(clients, "quarantine redrive")
        warnings = preflight_clocks(clients)
        changes = set or {}
        if dry_run:
            outcome = try_redrive(clients, selection, layout_of, changes, run, new_chunks)
            done = list(outcome.done)
        else:
            outcome = None
            chosen = select(clients, selection)
            emit(Started("quarantine", sum(len(batch.entries) for batch in chosen)))
            replay = partial(
                replay_entries, clients, find_layout=layout_of, changes=changes, run=run, new_chunks=new_chunks
            )
            done = _replay_all(clients, chosen, replay, config.parallel_loads) if chosen else []
            if done:
                report_redrive(done)
    counts = ("tried", "inserted", "duplicates", "still_bad")
    result: dict[str, Any] = {name: sum(getattr(part, name) for part in done) for name in counts}
    run_logger().info("%s: %s", "would be redriven" if dry_run else "redriven", result)
    if outcome is not None:
        result |= {"reasons": [asdict(one) for one in outcome.reasons], "all_reasons": outcome.all_reasons}
    result["warnings"] = warnings + (new_chunks.warnings() if new_chunks else [])
    for warning in result["warnings"]:
        run_logger().warning(printable(warning))
    if result["tried"] and not dry_run and not (result["inserted"] or result["duplicates"]):
        raise Unsuccessful(
            f"redrive: expected entries to succeed, found none of {result['tried']:,}; all stay in the quarantine, with"
            " the reason of this attempt (spillway quarantine list); fix the mapping, or the entries (spillway"
            " quarantine redrive --stream STREAM ID --set FIELD=VALUE)",
            result,
            ExitCode.NOTHING_REDRIVEN,
        )
    return result


@step("replay entries", retries=0)
def _replay_all(
    clients: Clients, chosen: Sequence[ReplayBatch], replay: Callable[..., RedriveResult], parallel: int
) -> list[RedriveResult]:
    """Replay the batches, in one task run, `parallel` at the same time; large ones one by one, for the memory's sake.

    Entries that were replayed before an error stay replayed.
    """
    route = InsertRoute.STRAIGHT

    def one(batch: ReplayBatch) -> RedriveResult:
        nonlocal route
        done = replay(batch, route=route)
        route = done.next_route
        emit(Advanced("quarantine", len(batch.entries)))
        return done

    with Workers(clients, 1 if any(batch.large for batch in chosen) else parallel) as workers:
        return [future.result() for future in [workers.submit(one, batch) for batch in chosen]]
