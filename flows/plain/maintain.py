"""Maintain the tables: compression, archive and retention, and a check that each does what the settings say."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from infra.connections.clients import Clients
from infra.display import printable
from infra.errors.classify import is_transient
from infra.errors.exceptions import SpillwayError, Terminal, Unsuccessful
from infra.errors.redact import one_line
from infra.settings import settings
from tasks.archive.due import find_unarchived
from tasks.archive.steps import archive_and_drop, archive_and_keep
from tasks.base.arrow_memory import use_system_allocator
from tasks.base.run_log import run_logger
from tasks.ledger.successes import record_success
from tasks.maintain.check import check
from tasks.maintain.chunk_states import ChunkState
from tasks.maintain.compression import set_compression_policy
from tasks.maintain.maintain_report import MaintainReport, report_maintenance, result
from tasks.maintain.maintained_table import MaintainedTable, find_tables
from tasks.maintain.recompression import find_recompressions, recompress
from tasks.maintain.retention import DroppedChunk, drop, find_expired, set_retention_policy
from tasks.maintain.table_report import MaintainOutcome, TableReport, outcome_lines
from tasks.preflight.preflight import preflight_clocks, preflight_rights
from tasks.table.chunks import Chunk, has_chunks


def maintain(dry_run: bool = False, fail: bool = True) -> dict[str, Any]:
    """Apply the settings to all tables, drop expired chunks, compress late rows, and check the result.

    A step that fails stops neither the others nor other tables. Safe to repeat, and to run while drains run.

    Args:
        dry_run: Change nothing; report what would change.
        fail: Fail the run if the check finds a violation or a step failed.

    Returns:
        The report of `tasks.maintain.maintain_report.result`.

    Raises:
        Unsuccessful: With the report, if `fail` is set and there is a violation or a step failed.
        Terminal: The check of every table failed, so there is no report. The message lists what was done before.
    """
    use_system_allocator()
    began = time.monotonic()
    with Clients(settings(), "maintain") as clients:
        if not dry_run:
            preflight_rights(clients, "maintain")
        clocks = tuple(preflight_clocks(clients))  # a wrong clock must not drop anything
        there = find_tables(clients)
        done = [(one, _maintain(clients, one, dry_run)) for one in there.tables]
        report = MaintainReport(
            dry_run,
            _check_all(clients, done, began, dry_run),
            failed=(*there.failed, *there.lost),
            deferred=clocks,
        )
        report_maintenance(report)
        if not dry_run and not report.violations:
            record_success(clients, "maintain")
    for warning in report.warnings:
        run_logger().warning(printable(warning))
    outcome = result(report)
    if fail and (problems := report.violations):
        raise Unsuccessful(f"maintain: {'; '.join(problems)}", outcome)
    return outcome


def _check_all(
    clients: Clients, done: Sequence[tuple[MaintainedTable, _Progress]], began: float, dry_run: bool
) -> tuple[TableReport, ...]:
    """Check every table. A check that fails does not stop the others. Raises `Terminal` if all fail."""
    reports = []
    for one, progress in done:
        found = None
        with _collect_errors(progress.failed):
            found = check(clients, one, time.monotonic() - began, dry_run)
        reports.append(TableReport(one, progress.outcome(dry_run), found))
    if not any(report.found for report in reports):
        # There is no report, and an earlier failure may be the reason.
        details = [
            text
            for report in reports
            for text in (*report.done.failed, *report.done.deferred, *outcome_lines(report.done))
        ]
        raise Terminal(f"maintain: {'; '.join(details)}")
    return tuple(reports)


@dataclass
class _Progress:
    """What the run has done to a table so far; see `MaintainOutcome`."""

    changes: list[str] = field(default_factory=list)
    compressed_again: list[Chunk] = field(default_factory=list)
    archived: list[Chunk] = field(default_factory=list)
    dropped: list[DroppedChunk] = field(default_factory=list)
    deferred: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def outcome(self, dry_run: bool) -> MaintainOutcome:
        return MaintainOutcome(dry_run, **{name: tuple(found) for name, found in vars(self).items()})


def _maintain(clients: Clients, one: MaintainedTable, dry_run: bool) -> _Progress:
    """Everything that changes something in a table, chunk by chunk.

    Expired chunks are archived before they are dropped, and are not compressed.
    """
    done = _Progress()
    if not has_chunks(one.table) or not one.owned:
        return done
    with _collect_errors(done.failed):
        done.changes.extend(set_retention_policy(clients, one, dry_run))
    expired: list[ChunkState] = []
    with _collect_errors(done.failed):
        expired += find_expired(clients, one)
    expired_chunks = {state.chunk for state in expired}
    archived_when_dropped = expired_chunks if one.options.retention == "archive" else set()
    with _collect_errors(done.failed):
        for chunk in find_unarchived(clients, one):
            if chunk not in archived_when_dropped:
                with _collect_errors(done.failed, done.deferred):
                    if dry_run or archive_and_keep(clients, one, chunk):
                        done.archived.append(chunk)
    for state in expired:
        with _collect_errors(done.failed, done.deferred):
            rows = state.rows if dry_run else _drop(clients, one, state)
            if rows is not None:
                done.dropped.append(DroppedChunk(state.chunk, rows, state.bytes))
    with _collect_errors(done.failed):
        done.changes.extend(set_compression_policy(clients, one, dry_run))
    with _collect_errors(done.failed):
        for late in find_recompressions(clients, one):
            if late.state.chunk not in expired_chunks:
                with _collect_errors(done.failed, done.deferred):
                    if not dry_run:
                        recompress(clients, late)
                    done.compressed_again.append(late.state.chunk)
    return done


def _drop(clients: Clients, one: MaintainedTable, state: ChunkState) -> int | None:
    """Returns the number of rows dropped; None if another run dropped the chunk."""
    if one.options.retention != "archive":
        return drop(clients, one.table, state)
    manifest = archive_and_drop(clients, one, state.chunk, state.bytes)
    return None if manifest is None else manifest.rows


@contextmanager
def _collect_errors(failed: list[str], deferred: list[str] | None = None) -> Iterator[None]:
    """Add an error in the block to `failed`, or to `deferred` if a later run may succeed, and continue after it."""
    try:
        yield
    except SpillwayError as error:
        target = deferred if deferred is not None and is_transient(error) else failed
        if (text := one_line(error)) not in target:  # once, if a hundred chunks fail for the same reason
            target.append(text)
