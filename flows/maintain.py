"""Look after the hypertable: compression, archive and retention, and the check that they do what they are set to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect import flow, get_run_logger

from infra.connections import Clients
from infra.errors import SpillwayError, Terminal, is_transient, one_line
from infra.settings import settings
from tasks.archive.due import find_unarchived
from tasks.archive.steps import archive, archive_and_drop
from tasks.check import check
from tasks.chunks import ChunkState
from tasks.compress import agree_on_compression, compress, find_late
from tasks.maintenance import Done, report_maintenance, result, violations
from tasks.retain import Dropped, agree_on_retention, drop, find_due


@flow(name="maintain", persist_result=False)
def maintain(dry_run: bool = False, fail: bool = True) -> dict[str, Any]:
    """Make the server agree with the settings, drop what is past its time, compress late rows, and check all of it.

    `dry_run`: change nothing, say what would be. A step that fails keeps none of the others from being done. Returns
    what `tasks.maintenance.result` says. Raises `Terminal` where the check finds a violation or a step failed, unless
    `fail` is false. Safe to repeat, and beside drains.
    """
    began = time.monotonic()
    with Clients(settings()) as clients:
        done = _maintain(clients, dry_run)
        found = check(clients, time.monotonic() - began, dry_run)
        report_maintenance(done, found)
    for warning in (*done.refused, *found.warnings):
        get_run_logger().warning(warning)
    if fail and (problems := violations(done, found)):
        raise Terminal(f"maintain: {'; '.join(problems)}")
    return result(done, found)


def _maintain(clients: Clients, dry_run: bool) -> Done:
    """All that changes anything, chunk after chunk. What is to go goes first, so that it is not compressed before."""
    done = Done(dry_run)
    with _noted(done.failed):
        done.changes.extend(agree_on_retention(clients, dry_run))
    with _noted(done.failed):
        for state in find_due(clients):
            with _noted(done.failed, done.refused):
                done.dropped.append(_drop(clients, state, dry_run))
    with _noted(done.failed):
        for chunk in find_unarchived(clients):
            with _noted(done.failed, done.refused):
                if not dry_run:
                    archive(clients, chunk)
                done.archived.append(chunk)
    with _noted(done.failed):
        done.changes.extend(agree_on_compression(clients, dry_run))
    with _noted(done.failed):
        for late in find_late(clients):
            with _noted(done.failed, done.refused):
                if not dry_run:
                    compress(clients, late)
                done.compressed_again.append(late.state.chunk)
    return done


def _drop(clients: Clients, state: ChunkState, dry_run: bool) -> Dropped:
    if dry_run:
        rows = state.rows
    elif clients.settings.retention == "archive":
        rows = archive_and_drop(clients, state.chunk).rows
    else:
        rows = drop(clients, state) or 0
    return Dropped(state.chunk, rows, state.bytes)


@contextmanager
def _noted(failed: list[str], passing: list[str] | None = None) -> Iterator[None]:
    """What goes wrong inside is put down, and the next thing is done. `passing`: for what the next run may well do."""
    try:
        yield
    except SpillwayError as error:
        (passing if passing is not None and is_transient(error) else failed).append(one_line(error))
