"""Load history: files, the archive or a past range of a stream, exactly once, while the live drain continues."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any
from uuid import uuid4

from flows.loads.backfill_loads import BackfillLoads, SourceProgress, load_sources
from flows.loads.backfill_request import (
    BackfillRequest,
    ExpiredRows,
    check_expired,
    check_request,
    too_many_chunks,
)
from infra.connections.clients import Clients
from infra.display import printable
from infra.errors.exceptions import SpillwayError, Terminal
from infra.errors.redact import one_line
from infra.mapping.toml import configured_mappings
from infra.settings import settings
from tasks.backfill.backfill_plan import BackfillPlan, apply_retention, make_plan
from tasks.backfill.backfill_report import report_backfill, result, too_many_bad
from tasks.backfill.find_sources import FILES, find_archived, find_source_files, mapping_for, read_files, stream_source
from tasks.backfill.recompress import Compressor, compress_rest
from tasks.backfill.registration import settle_sources
from tasks.backfill.source import BackfillSource, leave_out_copies
from tasks.backfill.target_table import TargetTables, find_table, map_chunks, read_at, shortest_keep
from tasks.backfill.throttle import MOST_PARALLEL, LoadThrottle
from tasks.base.arrow_memory import use_system_allocator
from tasks.base.progress import Started, StepReached, ask, emit
from tasks.base.run_log import run_logger, run_name
from tasks.columns.row_layout import RowLayout
from tasks.files.find import SourceFile
from tasks.files.spool import Spool
from tasks.preflight.layouts import read_stream_layouts
from tasks.preflight.preflight import preflight
from tasks.preflight.table_fit import identity_notes

_FILES_A_STEP = 32


def backfill(
    source: str | list[str] | None = None,
    stream: str | None = None,
    archive: bool = False,
    since: str | None = None,
    until: str | None = None,
    mapping: str | None = None,
    again: bool = False,
    expired: ExpiredRows = "fail",
    yes: bool = False,
    dry_run: bool = False,
    rate: float | None = None,
    parallel: int | None = None,
    without: list[str] | None = None,
    table: str | None = None,
) -> dict[str, Any]:
    """Load files, the archive, or a past range of a stream. Rows that the ledger already covers are skipped; rows that
    are already in the table are counted as duplicates.

    Args:
        source: Files, folders, globs or URLs to load.
        stream: A stream in Redis to load instead.
        archive: Load the chunks that `maintain` has archived instead.
        since: Start at this entry id or ISO 8601 time of the stream, or at this time of the archive.
        until: Stop after this entry id or ISO 8601 time of the stream, or after this time of the archive.
        mapping: The table of spillway.toml that maps the files onto the events table. Without it: the one that matches
            each file's name.
        again: Also load rows that the ledger already covers.
        expired: Rows past the retention horizon (`SPILLWAY_KEEP`). `fail`: load nothing if there are any. `skip`: leave
            them out. `load`: load them until the next `maintain` drops them.
        yes: Allow more new chunks than `SPILLWAY_MAX_NEW_CHUNKS`.
        dry_run: Only report the plan.
        rate: Load at most this many events per second.
        parallel: How many loads run at the same time. Without it: `SPILLWAY_PARALLEL_LOADS`.
        without: Columns of the archive to leave out.
        table: The table whose archive is loaded. Without it: `events`.

    Returns:
        The totals of `tasks.backfill.backfill_report.result`.

    Raises:
        SpillwayError: Committed rows stay. The same backfill, run again, continues from there.
    """
    began = time.monotonic()
    use_system_allocator()
    config = settings()
    files = [source] if isinstance(source, str) else source or []
    request = BackfillRequest(
        files,
        stream,
        archive,
        since,
        until,
        mapping,
        again,
        expired,
        yes,
        dry_run,
        rate,
        parallel,
        without or [],
        table,
    )
    check_request(request)
    failed: list[str] = []
    with Clients(config, "backfill") as clients, closing(Spool()) as spool:
        _, warnings = preflight(clients, [], needs_redis=stream is not None, command="backfill")
        sources, targets, notes = _find_sources(clients, request, spool)
        warnings += [*notes, *(warning for found in sources for warning in found.warnings)]
        sources = [
            apply_retention(one, shortest_keep(one.tables, targets), read_at(targets), expired)
            for one in leave_out_copies(sources)
        ]
        progress = [SourceProgress(one) for one in sources]
        planned = make_plan(clients, sources, targets, sample=dry_run)
        if not dry_run:
            check_expired(planned, expired)
            if question := too_many_chunks(planned, config, yes):
                _ask_to_continue(question)
            planned, failed = _load(clients, request, planned, progress, targets)
        warnings += clients.replica_warnings
        totals = result(planned, [one.result() for one in progress], warnings, dry_run, time.monotonic() - began)
        report_backfill(totals)
    for warning in warnings:
        run_logger().warning(printable(warning))
    if errors := [*(one.error for one in progress if one.error), *failed]:
        raise Terminal("; ".join(errors))
    return totals


def _find_sources(
    clients: Clients, request: BackfillRequest, spool: Spool
) -> tuple[list[BackfillSource], TargetTables, list[str]]:
    """Read the sources that the request names and compare them with the ledger. Returns them, their tables, and
    warnings."""
    mappings = configured_mappings(clients.settings)
    if request.stream:
        named = {request.stream: mappings.for_stream(request.stream)}
        layout = read_stream_layouts(clients, named, "backfill")[request.stream]
        since, until, again, dry_run = request.since, request.until, request.again, request.dry_run
        targets = map_chunks(clients, [layout])
        return [stream_source(clients, request.stream, layout, since, until, again, dry_run)], targets, []
    mapped: Sequence[tuple[SourceFile, RowLayout]]
    if request.archive:
        table = find_table(clients, request.table)
        mapped, notes = find_archived(clients, table, request.since, request.until, request.without)
    else:
        files, notes = find_source_files(request.source)
        named = {file.display_name: mapping_for(file, mappings, request.mapping) for file in files}
        layouts = read_stream_layouts(clients, named, "backfill")
        mapped = [(file, layouts[file.display_name]) for file in files]
        notes += identity_notes(layouts.values())
    targets = map_chunks(clients, [layout for _, layout in mapped])
    emit(Started(FILES, len(mapped)))
    sources: list[BackfillSource] = []
    for at in range(0, len(mapped), _FILES_A_STEP):
        sources += read_files(clients, mapped[at : at + _FILES_A_STEP], spool, request.again, targets)
    return sources, targets, notes


def _load(
    clients: Clients,
    request: BackfillRequest,
    planned: BackfillPlan,
    progress: list[SourceProgress],
    targets: TargetTables,
) -> tuple[BackfillPlan, list[str]]:
    """Load what remains of the sources and compress their chunks. Returns the plan with these chunks, and errors."""
    failed: list[str] = []
    progress.sort(key=lambda one: min(one.source.days, default=0))
    sources = [one.source for one in progress]
    run = f"{run_name('backfill')} {uuid4()}"
    parallel = min(request.parallel or clients.settings.parallel_loads, MOST_PARALLEL)
    throttle = LoadThrottle(clients, parallel)
    with Compressor(clients, [target.table for target in targets.values()], sources) as compressor:
        loads = BackfillLoads(clients, targets, run, request.rate, throttle, compressor)
        load_sources(loads, [one for one in progress if one.source.remaining])
        try:
            for one, problem in zip(progress, settle_sources(clients, sources), strict=True):
                one.error = one.error or problem
            compress_rest(compressor, throttle)
            emit(StepReached("backfill", "compressed"))
        except SpillwayError as error:  # the loaded rows are still reported
            failed.append(one_line(error))
    failed += too_many_bad([one.result() for one in progress], clients.settings.max_bad_share)
    return replace(planned, compressed=compressor.done), failed


def _ask_to_continue(question: str) -> None:
    """Ask for confirmation at the terminal. Raises `Terminal` if there is no terminal or the answer is no."""
    if not ask(f"{question}; continue?"):
        raise Terminal(f"backfill: {question}; nothing was loaded: check the times (--dry-run), or allow it with --yes")
