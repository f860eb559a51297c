"""The check of maintenance: not what is set, but whether it works, and whether anything is gone that must not be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import psycopg

from infra.connections.clients import Clients
from infra.settings import Settings
from infra.table import on_events
from tasks.base.clock import server_now
from tasks.base.step import step
from tasks.maintain.chunk_states import ChunkState, chunk_states, format_chunk_count
from tasks.maintain.compression import (
    CurrentPolicy,
    DesiredPolicy,
    desired_policy,
    due_since,
    failed_by_job,
    ran_since_due,
    read_current_policy,
    why_not_compressed,
)
from tasks.maintain.forecast import NextDrop, Policies, next_drop, what_next
from tasks.maintain.jobs import Job, format_age, is_community, read_jobs
from tasks.maintain.retention import expired_chunks
from tasks.maintain.row_audit import RowAudit, audit_rows

# A chunk may be in use for a run or two, and the database's jobs come once or twice a day.
_PATIENCE = timedelta(days=2)
_SLOWEST = """
    SELECT max(seconds)::float8 FROM spillway.ledger
     WHERE ranges = 1 AND loaded_at < %(stop)s AND loaded_at + seconds * interval '1 second' > %(start)s"""
NEEDS_COMMUNITY = (
    "chunks are not compressed: that needs the Community edition of TimescaleDB, found Apache"
    " (SPILLWAY_COMPRESS_AFTER= silences this)"
)


@dataclass(frozen=True)
class CheckResult:
    """What was found. `next`: of each of `chunks`, in words. `violations` fail the flow, `warnings` do not.

    `horizon`: the time before which events may be dropped, None for never; `dropping_after`: the age that the
    database's own job is set to. `slowest_load`: seconds of the longest load beside this run, or beside the last one of
    the database's compression; None where there was none.
    """

    now: datetime
    community: bool
    chunks: tuple[ChunkState, ...]
    next: tuple[str, ...]
    compression: CurrentPolicy
    keep: timedelta | None
    horizon: datetime | None
    dropping_after: timedelta | None
    retention_job: Job | None
    oldest: datetime | None
    overdue: tuple[str, ...]
    next_drop: NextDrop | None
    row_audit: RowAudit
    slowest_load: float | None
    violations: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def ratio(self) -> float | None:
        """How many times smaller all compressed chunks are than they were as rows."""
        now = sum(state.bytes for state in self.chunks if state.bytes_as_rows)
        before = sum(state.bytes_as_rows or 0 for state in self.chunks)
        return before / now if now and before else None


def check_table(
    connection: psycopg.Connection, config: Settings, wanted: DesiredPolicy | None, began: datetime, dry: bool
) -> CheckResult:
    """Look at everything; nothing is changed. `began`: when this run began to compress. Raises `psycopg.Error`."""
    community, now = is_community(connection), server_now(connection)
    found = read_current_policy(connection)
    retention_jobs = tuple(read_jobs(connection, "retention"))
    horizon = None if config.keep is None else now - config.keep
    accounted, counted = audit_rows(connection, horizon)
    states = tuple(
        replace(state, rows=counted[state.chunk], exact=True) if state.chunk in counted else state
        for state in chunk_states(connection)
    )
    policies = Policies(
        wanted if community else None, found.jobs, config.keep, config.retention, retention_jobs, config.archive_after
    )
    oldest = connection.execute(on_events("SELECT min(time) FROM {events}")).fetchone()
    overdue = _overdue(states, policies, now, dry)
    violations = [problem for problem, grave in overdue if grave]
    warnings = [] if dry else [problem for problem, grave in overdue if not grave]
    for problem, grave in _not_compressed(states, policies, now):
        (violations if grave else warnings).append(problem)
    if wanted is not None and not community:
        warnings.append(NEEDS_COMMUNITY)
    if not overdue:
        warnings += [f"retention: {job}; no chunk is left undone by it" for job in retention_jobs if job.failed]
    violations += _missing(accounted)
    if not accounted.checked and states:
        warnings.append("not checked whether all is there: the rows could not be counted in time")
    return CheckResult(
        now=now,
        community=community,
        chunks=states,
        next=tuple(what_next(state, policies, now) for state in states),
        compression=found,
        keep=config.keep,
        horizon=horizon,
        dropping_after=next((job.after for job in retention_jobs), None),
        retention_job=next(iter(retention_jobs), None),
        oldest=oldest[0] if oldest else None,
        overdue=tuple(problem for problem, _ in overdue),
        next_drop=next_drop(states, policies, now, dry),
        row_audit=accounted,
        slowest_load=_slowest_load(connection, began, now, found.jobs),
        violations=tuple(violations),
        warnings=tuple(warnings),
    )


def _overdue(states: Sequence[ChunkState], policies: Policies, now: datetime, dry: bool) -> list[tuple[str, bool]]:
    """Chunks that should be gone and are not, together by reason, and whether that is grave."""
    reasons: dict[tuple[str, bool], list[ChunkState]] = {}
    for state in expired_chunks(states, policies.keep, now):
        assert policies.keep is not None  # nothing is due without it
        # Late events make old chunks anew.
        since = max(state.chunk.range_end + policies.keep, state.created)
        reason = _why_not_gone(since, policies, now, dry)
        reasons.setdefault(reason, []).append(state)
    return [
        (f"{format_chunk_count(len(chunks))} should be gone ({chunks[0].chunk.table}, past its time since"
         f" {chunks[0].chunk.range_end + (policies.keep or timedelta()):%Y-%m-%d %H:%M}): {why}", grave)
        for (why, grave), chunks in reasons.items()
    ]  # fmt: skip


def _why_not_gone(since: datetime, policies: Policies, now: datetime, dry: bool) -> tuple[str, bool]:
    """Why a chunk that is to go since `since` is there, and whether that is grave."""
    if policies.way != "policy":
        return ("the next run drops it", False) if dry else ("this run did not drop it", now - since > _PATIENCE)
    job = next(iter(policies.retention_jobs), None)
    if job is None:
        return "the database has no job for it", not dry
    if job.running:
        return str(job), False
    if not job.enabled or job.failed:
        return str(job), True
    if job.last_start is None or job.last_start < since:
        return f"{job}, and not since it is due", now - since > _PATIENCE and _overslept(job, now)
    return f"{job} and left it", True


def _overslept(job: Job, now: datetime) -> bool:
    """Whether the database's scheduler does not come to it. One that has never run may have been set just now."""
    return job.last_start is not None and (job.next_start is None or job.next_start < now - _PATIENCE)


def _not_compressed(states: Sequence[ChunkState], policies: Policies, now: datetime) -> list[tuple[str, bool]]:
    """Chunks that should be compressed and are not, together by reason; grave where the job fails them, or leaves them
    as rows for days."""
    wanted, jobs = policies.compress, policies.compression_jobs
    if wanted is None:
        return []
    reasons: dict[tuple[str, bool], list[str]] = {}
    going = expired_chunks(states, policies.keep, now)
    for state in states:
        failed = failed_by_job(state, jobs, wanted)
        waiting = state.state == "rows" and not failed and now - due_since(state, wanted) <= _PATIENCE
        if not (waiting or state in going) and (why := why_not_compressed(state, jobs, wanted, now)):
            left = state.state == "rows" and any(
                not job.running and (ran_since_due(state, job, wanted) or _overslept(job, now)) for job in jobs
            )
            reasons.setdefault((why, failed or left), []).append(state.chunk.table)
    found = []
    for (why, grave), chunks in reasons.items():
        are = "are" if len(chunks) > 1 else "is"
        past = f"{format_chunk_count(len(chunks))} past {format_age(wanted.after)}"
        text = f"{past} {are} not compressed, or not wholly ({chunks[0]}"
        found.append((f"{text}{', …' if len(chunks) > 1 else ''}): {why}", grave))
    if not found:
        # What it was to do is done, by it or by this flow.
        found += [(f"compression: {job}; no chunk is left undone by it", False) for job in jobs if job.failed]
    return found


def _missing(found: RowAudit) -> list[str]:
    if not found.missing:
        return []
    since = f"from {found.since:%Y-%m-%d %H:%M} on" if found.since else "in all"
    return [
        f"{found.missing:,} event{'s are' if found.missing > 1 else ' is'} gone: the ledger says {found.inserted:,}"
        f" were inserted {since}, {found.rows:,} are there and {found.dropped:,} were dropped by retention; find out"
        " who deleted them (docs/operations.md)"
    ]


def _slowest_load(connection: psycopg.Connection, began: datetime, now: datetime, jobs: Sequence[Job]) -> float | None:
    spans = [(began, now)]
    spans += [
        (job.last_start, job.last_start + timedelta(seconds=job.last_seconds or 0)) for job in jobs if job.last_start
    ]
    found = []
    for start, stop in spans:
        row = connection.execute(_SLOWEST, {"start": start, "stop": stop}).fetchone()
        found += [row[0]] if row and row[0] is not None else []
    return max(found, default=None)


@step("check")
def check(clients: Clients, seconds: float, dry_run: bool) -> CheckResult:
    """`check_table`, as a task, for a run that began so many seconds ago."""
    with clients.translate_errors("check"), clients.postgres() as connection:
        began = server_now(connection) - timedelta(seconds=seconds)
        return check_table(connection, clients.settings, desired_policy(clients), began, dry_run)
