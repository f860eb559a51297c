"""Look after the hypertable: compression, archive and retention, and the check that they do what they are set to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect import flow, get_run_logger

from infra.connections.clients import Clients
from infra.display import printable
from infra.errors.classify import is_transient
from infra.errors.exceptions import SpillwayError, Terminal, Unsuccessful
from infra.errors.redact import one_line
from infra.settings import settings
from tasks.archive.due import find_unarchived
from tasks.archive.steps import archive_and_drop, archive_and_keep
from tasks.base.arrow_memory import use_system_allocator
from tasks.maintain.check import check
from tasks.maintain.chunk_states import ChunkState
from tasks.maintain.compression import find_recompressions, recompress, set_compression_policy
from tasks.maintain.maintain_report import MaintainOutcome, outcome_lines, report_maintenance, result, violations
from tasks.maintain.retention import DroppedChunk, drop, find_expired, set_retention_policy
from tasks.preflight.preflight import preflight_clocks, preflight_rights


@flow(name="maintain", persist_result=False)
def maintain(dry_run: bool = False, fail: bool = True) -> dict[str, Any]:
    """Make the server agree with the settings, drop what is past its time, compress late rows, and check all of it.

    `dry_run`: change nothing, say what would be. A step that fails keeps none of the others from being done. Returns
    what `maintain_report.result` says. Raises `Unsuccessful` with that if the check finds a violation or a step
    failed, unless `fail` is false. Safe to repeat, and beside drains.
    """
    use_system_allocator()
    began = time.monotonic()
    with Clients(settings(), "maintain") as clients:
        if not dry_run:
            preflight_rights(clients, "maintain")
        done = _maintain(clients, dry_run)
        try:
            found = check(clients, time.monotonic() - began, dry_run)
        except SpillwayError as error:
            # What was done has no report then, and what failed before may be why.
            said = "; ".join([*done.failed, *done.refused, one_line(error), *outcome_lines(done)])
            raise Terminal(f"maintain: {said}") from error
        report_maintenance(done, found)
    for warning in (*done.refused, *found.warnings):
        get_run_logger().warning(printable(warning))
    outcome = result(done, found)
    if fail and (problems := violations(done, found)):
        raise Unsuccessful(f"maintain: {'; '.join(problems)}", outcome)
    return outcome


def _maintain(clients: Clients, dry_run: bool) -> MaintainOutcome:
    """All that changes anything, chunk after chunk. What is to go is archived before, and is not compressed."""
    done = MaintainOutcome(dry_run)
    done.refused.extend(preflight_clocks(clients))  # by a wrong clock nothing may be dropped
    with _noted(done.failed):
        done.changes.extend(set_retention_policy(clients, dry_run))
    leaving: list[ChunkState] = []
    with _noted(done.failed):
        leaving += find_expired(clients)
    going = {state.chunk for state in leaving}
    archived_as_they_go = going if clients.settings.retention == "archive" else set()
    with _noted(done.failed):
        for chunk in find_unarchived(clients):
            if chunk not in archived_as_they_go:
                with _noted(done.failed, done.refused):
                    if dry_run or archive_and_keep(clients, chunk):
                        done.archived.append(chunk)
    for state in leaving:
        with _noted(done.failed, done.refused):
            rows = state.rows if dry_run else _drop(clients, state)
            if rows is not None:
                done.dropped.append(DroppedChunk(state.chunk, rows, state.bytes))
    with _noted(done.failed):
        done.changes.extend(set_compression_policy(clients, dry_run))
    with _noted(done.failed):
        for late in find_recompressions(clients):
            if late.state.chunk not in going:
                with _noted(done.failed, done.refused):
                    if not dry_run:
                        recompress(clients, late)
                    done.compressed_again.append(late.state.chunk)
    return done


def _drop(clients: Clients, state: ChunkState) -> int | None:
    """How many rows went; None where another run has dropped the chunk."""
    if clients.settings.retention != "archive":
        return drop(clients, state)
    manifest = archive_and_drop(clients, state.chunk, state.bytes)
    return None if manifest is None else manifest.rows


@contextmanager
def _noted(failed: list[str], passing: list[str] | None = None) -> Iterator[None]:
    """What goes wrong inside is put down, and the next thing is done. `passing`: for what the next run may well do."""
    try:
        yield
    except SpillwayError as error:
        noted = passing if passing is not None and is_transient(error) else failed
        if (text := one_line(error)) not in noted:  # of a hundred chunks without a place for their archives once
            noted.append(text)
