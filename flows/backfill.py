"""Load history: files, archives or a past range of a stream, exactly once, beside the live drain."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from typing import Any, Literal
from uuid import uuid4

from prefect import flow, get_run_logger
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.loads.backfill_loads import Loads, SourceProgress
from infra.connections.clients import Clients
from infra.display import printable
from infra.errors.exceptions import SpillwayError, Terminal, WrongUse
from infra.errors.redact import one_line
from infra.mapping import Mapping, mappings_of
from infra.settings import Settings, settings
from tasks.backfill.backfill_plan import BackfillPlan, apply_retention, make_plan
from tasks.backfill.backfill_report import report_backfill, result, too_many_bad
from tasks.backfill.chunk_map import compressed_borders, map_chunks
from tasks.backfill.find_sources import FILES, find_archived, find_source_files, mapping_for, read_files, stream_source
from tasks.backfill.recompress import Compressor
from tasks.backfill.registration import settle_sources
from tasks.backfill.source import leave_out_copies
from tasks.backfill.throttle import LoadThrottle
from tasks.base.arrow_memory import use_system_allocator
from tasks.base.progress import Started, StepReached, ask, emit
from tasks.files.find import SourceFile
from tasks.files.spool import Spool
from tasks.preflight.preflight import preflight

_FILES_A_STEP = 32
_MOST_PARALLEL = 32
_RUNNER: Any = ThreadPoolTaskRunner(max_workers=_MOST_PARALLEL)


@flow(name="backfill", persist_result=False, task_runner=_RUNNER)
def backfill(
    source: str | list[str] | None = None,
    stream: str | None = None,
    archive: bool = False,
    start: str | None = None,
    stop: str | None = None,
    mapping: str | None = None,
    again: bool = False,
    expired: Literal["fail", "skip", "load"] = "fail",
    yes: bool = False,
    dry_run: bool = False,
    rate: float | None = None,
    parallel: int | None = None,
    without: list[str] | None = None,
) -> dict[str, Any]:
    """Load files, the archive, or a range of a stream: what the ledger has is left out, what the table has is counted.

    `source`: files, folders, globs or URLs; `archive`: what maintain has archived; `stream`: a stream in Redis.
    `start`, `stop`: of a stream entry ids or ISO 8601 times, of the archive times. `mapping`: the table of
    spillway.toml that a file goes by. `again`: load what the ledger has too. `expired`: what to do with rows past
    the retention horizon. `yes`: more new chunks than SPILLWAY_MAX_NEW_CHUNKS are meant. `dry_run`: only plan.
    `rate`: events/s at most; `parallel`: loads at the same time. `without`: archived columns whose values are left
    out. Returns what `tasks.backfill.backfill_report.result`
    says. Raises `SpillwayError`; what was committed until then stays, and the same backfill goes on from there.
    """
    began = time.monotonic()
    use_system_allocator()
    config = settings()
    wanted = [source] if isinstance(source, str) else source or []
    _demand_one_kind(wanted, stream, archive, start, stop, rate, parallel)
    if without and not archive:
        raise WrongUse("backfill: without is for columns of the archive; of files, the mapping names what is read")
    failed: list[str] = []
    with Clients(config, "backfill") as clients, closing(Spool()) as spool:
        _, warnings = preflight(clients, [], needs_redis=stream is not None, command="backfill")
        mappings = mappings_of(config)
        layout = map_chunks(clients)
        edges = compressed_borders(layout)
        if stream:
            sources = [stream_source(clients, stream, mappings.of(stream), start, stop, again, dry_run)]
        else:
            mapped: list[tuple[SourceFile, Mapping | None]] = []
            if archive:
                archived, notes = find_archived(clients, start, stop, without or [])
                mapped += archived
                warnings += notes
            else:
                files, notes = find_source_files(wanted)
                mapped += [(file, mapping_for(file, mappings, mapping)) for file in files]
                warnings += notes
            emit(Started(FILES, len(mapped)))
            sources = []
            for start_at in range(0, len(mapped), _FILES_A_STEP):
                sources += read_files(clients, mapped[start_at : start_at + _FILES_A_STEP], spool, again, edges)
        warnings += [warning for found in sources for warning in found.warnings]
        sources = [apply_retention(one, config.keep, layout, expired) for one in leave_out_copies(sources)]
        progress = [SourceProgress(one) for one in sources]
        planned = make_plan(clients, sources, layout, sample=dry_run)
        if not dry_run:
            _demand_agreement(planned, config, expired, yes)
            progress.sort(key=lambda one: min(one.source.days, default=0))
            run = f"{flow_run.name or 'backfill'} {uuid4()}"
            room = LoadThrottle(clients, min(parallel or config.parallel_loads, _MOST_PARALLEL))
            with closing(Compressor(clients, sources)) as compressor:
                loads = Loads(clients, layout, run, rate, room, compressor)
                try:
                    loads.run([one for one in progress if one.source.remaining])
                finally:
                    loads.finish()
                try:
                    problems = settle_sources(clients, [one.source for one in progress])
                    for one, problem in zip(progress, problems, strict=True):
                        one.error = one.error or problem
                    compressor.finish(room)
                    emit(StepReached("backfill", "compressed"))
                except SpillwayError as error:  # what was loaded, and what went wrong with it, is told all the same
                    failed.append(one_line(error))
            planned = replace(planned, compressed=compressor.done)
            failed += too_many_bad([one.result() for one in progress], config.max_bad_share)
        done = result(planned, [one.result() for one in progress], warnings, dry_run, time.monotonic() - began)
        report_backfill(done)
    for warning in warnings:
        get_run_logger().warning(printable(warning))
    if errors := [*(one.error for one in progress if one.error), *failed]:
        raise Terminal("; ".join(errors))
    return done


def _demand_one_kind(
    wanted: list[str],
    stream: str | None,
    archive: bool,
    start: str | None,
    stop: str | None,
    rate: float | None,
    parallel: int | None,
) -> None:
    if bool(wanted) + bool(stream) + archive != 1:
        raise WrongUse("backfill: expected either files (source), or a stream, or the archive; name one of them")
    if wanted and (start or stop):
        raise WrongUse("backfill: from and to are for a stream or the archive; of files, name those that are meant")
    if rate is not None and rate <= 0:
        raise WrongUse(f"backfill: rate: expected more than 0 events/s, found {rate}")
    if parallel is not None and parallel < 1:
        raise WrongUse(f"backfill: parallel: expected 1 or more, found {parallel}")


def _demand_agreement(planned: BackfillPlan, config: Settings, expired: str, yes: bool) -> None:
    """Raise `Terminal` where somebody has to decide first. Nothing was loaded."""
    if planned.expired and expired == "fail":
        raise Terminal(
            f"backfill: {planned.expired} of {planned.remaining} rows are older than the retention horizon"
            f" (SPILLWAY_KEEP), {planned.horizon:%Y-%m-%d}; nothing was loaded: leave them out"
            " (--expired skip), or load them until the next maintain drops them (--expired load)"
        )
    if planned.chunk_counts.new <= config.max_new_chunks or yes:
        return
    question = (
        f"this backfill makes {planned.chunk_counts.new} new chunks, more than SPILLWAY_MAX_NEW_CHUNKS"
        f" ({config.max_new_chunks})"
    )
    if not ask(f"{question}; go on?"):
        raise Terminal(f"backfill: {question}; nothing was loaded: look at the times (--dry-run), or say --yes")
