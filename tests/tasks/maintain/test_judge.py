"""What the check concludes from its facts: violations, warnings, and what may wait."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from infra.mapping.table_options import table_options
from infra.settings import Settings
from infra.tables.table import Table, TableColumn, TableKind
from tasks.maintain.chunk_states import ChunkState
from tasks.maintain.compression import CurrentPolicy, DesiredPolicy
from tasks.maintain.compression_layout import CompressionLayout
from tasks.maintain.forecast import Policies, what_next
from tasks.maintain.jobs import Edition, Job
from tasks.maintain.judge import (
    NEEDS_COMMUNITY,
    CheckFacts,
    CheckResult,
    Problem,
    judge,
    overdue_chunks,
    uncompressed_chunks,
)
from tasks.maintain.maintained_table import MaintainedTable
from tasks.maintain.row_audit import RowAudit
from tasks.table.chunks import Chunk

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY, WEEK = timedelta(days=1), timedelta(days=7)
WANTED = DesiredPolicy(WEEK, CompressionLayout.parse("", ""))
KEEP = timedelta(days=30)
_TIME = TableColumn("time", "timestamp with time zone", "timestamptz", nullable=False)
EVENTS = MaintainedTable(
    Table("public", "events", TableKind.HYPERTABLE, (_TIME,), time="time"),
    table_options(Settings(_env_file=None), True),
)


def chunk(age: timedelta, made: timedelta | None = None, state: str = "rows") -> ChunkState:
    """A chunk that ended so long ago, made as it began or so long ago."""
    end = NOW - age
    created = end - WEEK if made is None else NOW - made
    return ChunkState(Chunk("s", "c", end - WEEK, end), 10, 8192, state, created)  # type: ignore[arg-type]


# Once a day: it ran half a day ago and succeeded.
WELL = Job(7, "compression", WEEK, True, NOW - DAY / 2, 1.0, NOW - DAY / 2, False, None, NOW + DAY / 2)
NEW = Job(7, "compression", WEEK, True)
DISABLED = replace(WELL, enabled=False)
FAILED = replace(WELL, failed=True, error="disk full")
MET_A_DROP = replace(FAILED, error="no chunk found with ID 12")
RUNNING = replace(FAILED, last_start=NOW, next_start=None, running=True)
OVERSLEPT = replace(WELL, last_start=NOW - 9 * DAY, next_start=NOW - 8 * DAY)
NEVER_AGAIN = replace(WELL, last_start=NOW - 9 * DAY, next_start=None)
AWAKE_AGAIN = replace(WELL, last_start=NOW - 9 * DAY, next_start=NOW + DAY / 2)


IN_VAIN = Problem("compression: job 7 failed: disk full; no chunk is left undone by it", severe=False)


def policies(job: Job | None, keep: timedelta | None = None) -> Policies:
    return Policies(WANTED, (job,) if job else (), keep, "policy" if keep else "flow", (job,) if job and keep else ())


@pytest.mark.parametrize(
    ("state", "job", "severe"),
    [
        (chunk(6 * DAY), FAILED, None),  # not to be compressed yet
        (chunk(20 * DAY, state="compressed"), WELL, None),
        (chunk(8 * DAY), AWAKE_AGAIN, None),  # it has a run or two to come to it
        (chunk(20 * DAY, made=DAY), WELL, None),  # as has a chunk that late rows have just made
        (chunk(20 * DAY), FAILED, True),
        (chunk(20 * DAY), DISABLED, True),
        (chunk(8 * DAY), FAILED, True),
        (chunk(8 * DAY), MET_A_DROP, None),  # its next run compresses it
        (chunk(20 * DAY), MET_A_DROP, False),
        (chunk(20 * DAY), replace(MET_A_DROP, next_start=None, last_start=NOW - 9 * DAY), True),  # if there is one
        (chunk(20 * DAY), RUNNING, False),
        (chunk(20 * DAY), NEW, False),
        (chunk(12 * DAY), AWAKE_AGAIN, False),
        (chunk(12 * DAY), OVERSLEPT, True),  # the scheduler does not come
        (chunk(12 * DAY), NEVER_AGAIN, True),
        (chunk(20 * DAY), WELL, True),  # it comes, says that all is well, and leaves the chunk
        (chunk(20 * DAY), None, False),
        (chunk(20 * DAY, state="partial"), FAILED, False),  # late rows are the flow's to compress
    ],
)
def test_a_chunk_past_the_age_for_compression(state: ChunkState, job: Job | None, severe: bool | None) -> None:
    found = uncompressed_chunks([state], policies(job), NOW)
    about_it = [one for one in found if one.text.startswith("1 chunk past 7 days is not fully compressed (c): ")]
    assert [one.severe for one in about_it] == ([] if severe is None else [severe])
    if job is FAILED and severe:
        assert about_it[0].text.endswith("job 7 failed: disk full")


def test_a_job_that_failed_and_left_nothing_undone_is_a_warning() -> None:
    assert uncompressed_chunks([chunk(20 * DAY, state="compressed")], policies(FAILED), NOW) == [IN_VAIN]


def test_a_chunk_that_is_to_go_need_not_be_compressed() -> None:
    assert uncompressed_chunks([chunk(40 * DAY)], policies(FAILED, KEEP), NOW) == [IN_VAIN]


@pytest.mark.parametrize(
    ("state", "job", "severe"),
    [
        (chunk(29 * DAY), FAILED, None),
        (chunk(31 * DAY), AWAKE_AGAIN, False),
        (chunk(40 * DAY, made=DAY), AWAKE_AGAIN, False),
        (chunk(40 * DAY), WELL, True),
        (chunk(40 * DAY), FAILED, True),
        (chunk(40 * DAY), DISABLED, True),
        (chunk(40 * DAY), RUNNING, False),
        (chunk(40 * DAY), NEW, False),
        (chunk(35 * DAY), AWAKE_AGAIN, False),
        (chunk(35 * DAY), OVERSLEPT, True),
        (chunk(35 * DAY), NEVER_AGAIN, True),
        (chunk(40 * DAY), None, True),
    ],
)
def test_a_chunk_past_its_time_that_the_databases_job_is_to_drop(
    state: ChunkState, job: Job | None, severe: bool | None
) -> None:
    found = overdue_chunks([state], policies(job, KEEP), NOW, dry_run=False)
    assert [one.severe for one in found] == ([] if severe is None else [severe])
    expired = state.chunk.range_end + KEEP
    assert all(one.text.startswith(f"1 chunk should be gone since {expired:%Y-%m-%d} 00:00 (c): ") for one in found)


@pytest.mark.parametrize("way", ["flow", "archive"])
@pytest.mark.parametrize(
    ("state", "dry_run", "severe"),
    [
        (chunk(31 * DAY), False, False),  # in use for a run or two
        (chunk(33 * DAY), False, True),
        (chunk(90 * DAY, made=DAY), False, False),
        (chunk(90 * DAY), True, False),
    ],
)
def test_a_chunk_past_its_time_that_the_flow_is_to_drop(
    way: str, state: ChunkState, dry_run: bool, severe: bool
) -> None:
    policy = replace(policies(WELL), keep=KEEP, way=way)  # type: ignore[arg-type]
    found = overdue_chunks([state], policy, NOW, dry_run)
    assert [one.severe for one in found] == [severe]


def test_chunks_with_one_reason_are_one_finding() -> None:
    found = overdue_chunks([chunk(40 * DAY), chunk(50 * DAY)], policies(FAILED, KEEP), NOW, dry_run=False)
    assert len(found) == 1
    assert found[0].text.startswith("2 chunks should be gone since 2026-05-22 00:00 (c, …): job 7 failed")


@pytest.mark.parametrize(
    ("state", "keep", "archive_after", "expected"),
    [
        (chunk(DAY), None, None, "compress from 2026-06-07 on"),
        (chunk(DAY), KEEP, None, "compress from 2026-06-07 on"),
        (chunk(DAY), KEEP, 3 * DAY, "archive from 2026-06-03 on"),
        (chunk(20 * DAY, state="compressed"), KEEP, 3 * DAY, "drop from 2026-06-11 on"),
        (chunk(20 * DAY, state="compressed"), KEEP, 25 * DAY, "archive from 2026-06-06 on"),
        (chunk(20 * DAY, state="compressed"), None, None, "stays"),
        (chunk(40 * DAY), KEEP, None, "drop: the next run"),
        (chunk(20 * DAY), None, None, "compress: job 7 failed"),  # its words stand above the table
        (chunk(20 * DAY, state="partial"), None, None, "compress again: job 7 failed"),
    ],
)
def test_what_happens_next_is_what_comes_first(
    state: ChunkState, keep: timedelta | None, archive_after: timedelta | None, expected: str
) -> None:
    found = Policies(WANTED, (FAILED,), keep, "flow", (), archive_after)
    assert what_next(state, found, NOW) == expected


def judged(
    audit: RowAudit, *, community: bool = True, dry_run: bool = False, keep: timedelta | None = None
) -> CheckResult:
    """The verdict on two chunks, 40 days old and current, that wait for a flow that drops after `keep`."""
    compress = WANTED if community else None
    flow = Policies(compress, (WELL,), keep, "flow", ())
    states = (chunk(40 * DAY, state="compressed"), chunk(-DAY))
    current = CurrentPolicy(WANTED.layout, (WELL,))
    edition: Edition = "Community" if community else "Apache"
    facts = CheckFacts(NOW, EVENTS, edition, states, current, WANTED, flow, NOW - 47 * DAY, audit, None)
    return judge(facts, dry_run)


def test_nothing_is_wrong_with_a_table_that_is_as_it_is_set() -> None:
    found = judged(RowAudit(None, 20, 20, 0, checked=True))
    assert (found.violations, found.warnings, found.overdue, found.horizon) == ((), (), (), None)
    assert found.next == ("stays", "compress from 2026-06-09 on")


def test_missing_rows_are_a_violation_that_counts_them_and_names_the_command() -> None:
    since = NOW - 47 * DAY
    (violation,) = judged(RowAudit(since, 1_020, 7, 10, checked=True)).violations
    assert violation.startswith(
        "1,003 events are gone: the ledger says 1,020 were inserted from 2026-04-15 00:00 on, found 7 rows and 10"
        " dropped by retention; "
    )
    assert violation.endswith("spillway reconcile --deep --repair")
    (violation,) = judged(RowAudit(None, 20, 19, 0, checked=True)).violations
    assert violation.startswith("1 event is gone: the ledger says 20 were inserted in all, ")


def test_rows_that_could_not_be_counted_in_time_are_a_warning() -> None:
    found = judged(RowAudit())
    assert found.violations == ()
    assert found.warnings == ("the rows could not be counted in time: whether any are missing was not checked",)


def test_an_edition_that_cannot_compress_is_a_warning_only_if_compression_is_wanted() -> None:
    found = judged(RowAudit(checked=True), community=False)
    assert (found.violations, found.warnings) == ((), (NEEDS_COMMUNITY,))


@pytest.mark.parametrize(("dry_run", "violations"), [(False, 1), (True, 0)])
def test_a_chunk_that_a_dry_run_would_drop_is_listed_and_is_no_problem(dry_run: bool, violations: int) -> None:
    found = judged(RowAudit(checked=True), keep=KEEP, dry_run=dry_run)
    assert (len(found.overdue), len(found.violations), len(found.warnings)) == (1, violations, 0)
    assert found.horizon == NOW - KEEP
