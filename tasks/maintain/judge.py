"""What the facts of a check amount to: violations that fail the run, and warnings that do not. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from infra.tables.table import TableKind
from tasks.maintain.chunk_states import ChunkState, format_chunk_count
from tasks.maintain.compression import CurrentPolicy, DesiredPolicy
from tasks.maintain.forecast import NextDrop, Policies, next_drop, what_next
from tasks.maintain.jobs import Edition, Job, format_age
from tasks.maintain.maintained_table import MaintainedTable
from tasks.maintain.recompression import due_since, failed_by_job, ran_since_due, why_not_compressed
from tasks.maintain.retention import expired_chunks
from tasks.maintain.row_audit import RowAudit
from tasks.table.chunks import has_chunks

# A chunk may be in use during a run or two, and the database's jobs run once or twice a day.
_PATIENCE = timedelta(days=2)
NEEDS_COMMUNITY = (
    "chunks are not compressed: compression needs the Community edition of TimescaleDB, found Apache; everything else"
    " works; to silence this: SPILLWAY_COMPRESS_AFTER="
)


@dataclass(frozen=True)
class CheckFacts:
    """What a check reads from the server, before anything is concluded from it.

    `edition`: of TimescaleDB, None if it is not installed. `chunks`: the oldest first; rows are exact for those that
    the row audit counted. `desired`: what the options want, whatever the edition; `policies.compress` is None on an
    edition that cannot compress. `slowest_load`: in seconds. `bytes`: of the table with its indexes and chunks.
    `rows`: in the table, estimated for chunks that were not counted; None if they are not known.
    """

    now: datetime
    table: MaintainedTable
    edition: Edition | None
    chunks: tuple[ChunkState, ...]
    current: CurrentPolicy
    desired: DesiredPolicy | None
    policies: Policies
    oldest: datetime | None
    row_audit: RowAudit
    slowest_load: float | None
    bytes: int = 0
    rows: int | None = None


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be. `severe`: a violation, which fails the run; otherwise a warning."""

    text: str
    severe: bool


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a check. `violations` fail the run, `warnings` do not.

    `next`: in words, what happens next to each of `chunks`. `horizon`: the time before which events may be dropped,
    None for never. `dropping_after`: the age that the database's own job is set to. `slowest_load`: seconds of the
    longest load during this run, or during the last run of the database's compression job; None if there was none.
    """

    now: datetime
    table: MaintainedTable
    edition: Edition | None
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
    bytes: int = 0
    rows: int | None = None

    @property
    def ratio(self) -> float | None:
        """How many times smaller all compressed chunks are than they were as rows."""
        now = sum(state.bytes for state in self.chunks if state.bytes_as_rows)
        before = sum(state.bytes_as_rows or 0 for state in self.chunks)
        return before / now if now and before else None


def judge(facts: CheckFacts, dry_run: bool) -> CheckResult:
    """Conclude from the facts about one table. In a dry run, chunks that the run would have dropped are no problem."""
    policies, now = facts.policies, facts.now
    overdue = overdue_chunks(facts.chunks, policies, now, dry_run)
    problems = [one for one in overdue if one.severe or not dry_run]
    problems += uncompressed_chunks(facts.chunks, policies, now)
    problems += _edition_problems(facts) + _option_problems(facts)
    if not overdue:
        problems += [_failed_in_vain("retention", job) for job in policies.retention_jobs if job.failed]
    problems += _audit_problems(facts)
    retention_job = next(iter(policies.retention_jobs), None)
    return CheckResult(
        now=now,
        table=facts.table,
        edition=facts.edition,
        chunks=facts.chunks,
        next=tuple(what_next(state, policies, now) for state in facts.chunks),
        compression=facts.current,
        keep=policies.keep,
        horizon=None if policies.keep is None else now - policies.keep,
        dropping_after=retention_job.after if retention_job else None,
        retention_job=retention_job,
        oldest=facts.oldest,
        overdue=tuple(one.text for one in overdue),
        next_drop=next_drop(facts.chunks, policies, now, dry_run),
        row_audit=facts.row_audit,
        slowest_load=facts.slowest_load,
        violations=tuple(one.text for one in problems if one.severe),
        warnings=tuple(one.text for one in problems if not one.severe),
        bytes=facts.bytes,
        rows=facts.rows,
    )


def overdue_chunks(states: Sequence[ChunkState], policies: Policies, now: datetime, dry_run: bool) -> list[Problem]:
    """Chunks past the time to keep that still exist, one problem for each reason."""
    keep = policies.keep
    if keep is None:
        return []

    def reason(state: ChunkState) -> Problem:
        # Late events create old chunks again, so a chunk may be younger than its range.
        return _why_not_dropped(max(state.chunk.range_end + keep, state.created), policies, now, dry_run)

    return [
        Problem(
            f"{format_chunk_count(len(chunks))} should be gone since {chunks[0].chunk.range_end + keep:%Y-%m-%d %H:%M}"
            f" ({_name_first(chunks)}): {why.text}",
            why.severe,
        )
        for why, chunks in _group(expired_chunks(states, keep, now), reason).items()
    ]


def _why_not_dropped(since: datetime, policies: Policies, now: datetime, dry_run: bool) -> Problem:
    """Why a chunk that should be dropped since `since` still exists."""
    if policies.way != "policy":
        if dry_run:
            return Problem("the next run drops it", severe=False)
        return Problem("this run did not drop it", severe=now - since > _PATIENCE)
    job = next(iter(policies.retention_jobs), None)
    if job is None:
        return Problem("the database has no job that drops it; run `spillway maintain`", severe=not dry_run)
    if job.running:
        return Problem(str(job), severe=False)
    if not job.enabled or job.failed:
        return Problem(str(job), severe=True)
    if job.last_start is None or job.last_start < since:
        return Problem(f"{job}, and not since then", now - since > _PATIENCE and _is_overslept(job, now))
    return Problem(f"{job}, and left it", severe=True)


def _is_overslept(job: Job, now: datetime) -> bool:
    """Whether the database's scheduler never reaches the job. A job that never ran may have been added just now."""
    return job.last_start is not None and (job.next_start is None or job.next_start < now - _PATIENCE)


def uncompressed_chunks(states: Sequence[ChunkState], policies: Policies, now: datetime) -> list[Problem]:
    """Chunks past the age for compression that are not, or not fully, compressed, one problem for each reason.

    Severe if the job failed, or left them as rows for days. Chunks that are about to be dropped do not count.
    """
    wanted, jobs = policies.compress, policies.compression_jobs
    if wanted is None:
        return []
    expired = set(expired_chunks(states, policies.keep, now))
    reasons = {
        state: reason for state in states if state not in expired and (reason := _why_as_rows(state, jobs, wanted, now))
    }
    found = []
    for why, chunks in _group(list(reasons), reasons.__getitem__).items():
        are = "are" if len(chunks) > 1 else "is"
        past = f"{format_chunk_count(len(chunks))} past {format_age(wanted.after)}"
        found.append(Problem(f"{past} {are} not fully compressed ({_name_first(chunks)}): {why.text}", why.severe))
    return found or [_failed_in_vain("compression", job) for job in jobs if job.failed]


def _why_as_rows(state: ChunkState, jobs: Sequence[Job], wanted: DesiredPolicy, now: datetime) -> Problem | None:
    """Why a chunk is not fully compressed; None if it is, or need not be yet."""
    failed = failed_by_job(state, jobs, wanted)
    if state.state == "rows" and not failed and now - due_since(state, wanted) <= _PATIENCE:
        return None
    why = why_not_compressed(state, jobs, wanted, now)
    if why is None:
        return None
    left = state.state == "rows" and any(
        not job.running and ((ran_since_due(state, job, wanted) and not job.met_a_drop) or _is_overslept(job, now))
        for job in jobs
    )
    return Problem(why, failed or left)


def _failed_in_vain(kind: str, job: Job) -> Problem:
    """A job failed, but what it should have done is done, by the job itself or by `maintain`."""
    return Problem(f"{kind}: {job}; no chunk is left undone by it", severe=False)


def _edition_problems(facts: CheckFacts) -> list[Problem]:
    if facts.desired is None or facts.edition == "Community":
        return []
    return [Problem(NEEDS_COMMUNITY, severe=False)]


# The options that only chunks can have.
_CHUNK_OPTIONS = ("keep", "compress_after", "segmentby", "orderby")


def _option_problems(facts: CheckFacts) -> list[Problem]:
    """Options that are set for a table that they cannot apply to."""
    options, table = facts.table.options, facts.table.table
    if not has_chunks(table):
        wanted = [option for option in _CHUNK_OPTIONS if option in options.written]
        wanted += ["keep"] * (facts.table.is_events and not wanted and options.keep is not None)
        if not wanted:
            return []
        named = ", ".join(options.source(option) for option in wanted)
        text = f"{named}: expected a hypertable with a time, found {_kind(facts)}; the rest of maintenance works"
        return [Problem(text, severe=False)]
    if not facts.table.owned:
        text = (
            "the role of SPILLWAY_DATABASE_URL does not own the table, so no chunk of it is compressed, archived or"
            " dropped; its owner can do that, or grant the role"
        )
        return [Problem(text, severe=False)]
    return []


def _kind(facts: CheckFacts) -> str:
    table = facts.table.table
    if facts.edition is None:
        return f"a {table.kind.value} on a server without TimescaleDB"
    return f"a {table.kind.value}" + " without a time" * (table.kind is TableKind.HYPERTABLE)


def _audit_problems(facts: CheckFacts) -> list[Problem]:
    audit = facts.row_audit
    if audit.missing:
        since = f"from {audit.since:%Y-%m-%d %H:%M} on" if audit.since else "in all"
        what = "event" if facts.table.is_events else "row"
        are = f"{what}s are" if audit.missing > 1 else f"{what} is"
        text = (
            f"{audit.missing:,} {are} gone: the ledger says {audit.inserted:,} were inserted {since}, found"
            f" {audit.rows:,} rows and {audit.dropped:,} dropped by retention; find out who deleted them"
            " (docs/operations.md), then put them back: spillway reconcile --deep --repair"
        )
        return [Problem(text, severe=True)]
    if audit.checked or (has_chunks(facts.table.table) and not facts.chunks):
        return []
    return [Problem("the rows could not be counted in time: whether any are missing was not checked", severe=False)]


def _group(states: Sequence[ChunkState], reason: Callable[[ChunkState], Problem]) -> dict[Problem, list[ChunkState]]:
    grouped: dict[Problem, list[ChunkState]] = {}
    for state in states:
        grouped.setdefault(reason(state), []).append(state)
    return grouped


def _name_first(chunks: Sequence[ChunkState]) -> str:
    return f"{chunks[0].chunk.table}{', …' if len(chunks) > 1 else ''}"
