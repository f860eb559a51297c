"""Of chunks that are not as they should be: which are a violation, which a warning, and which have time yet."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tasks.maintain.check import _not_compressed, _overdue
from tasks.maintain.chunk_states import ChunkState
from tasks.maintain.compression import DesiredPolicy
from tasks.maintain.compression_layout import CompressionLayout
from tasks.maintain.forecast import Policies, what_next
from tasks.maintain.jobs import Job
from tasks.table.chunks import Chunk

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY, WEEK = timedelta(days=1), timedelta(days=7)
WANTED = DesiredPolicy(WEEK, CompressionLayout.parse("", ""))
KEEP = timedelta(days=30)


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
RUNNING = replace(FAILED, last_start=NOW, next_start=None, running=True)
OVERSLEPT = replace(WELL, last_start=NOW - 9 * DAY, next_start=NOW - 8 * DAY)
NEVER_AGAIN = replace(WELL, last_start=NOW - 9 * DAY, next_start=None)
AWAKE_AGAIN = replace(WELL, last_start=NOW - 9 * DAY, next_start=NOW + DAY / 2)


def policies(job: Job | None, keep: timedelta | None = None) -> Policies:
    return Policies(WANTED, (job,) if job else (), keep, "policy" if keep else "flow", (job,) if job and keep else ())


@pytest.mark.parametrize(
    ("state", "job", "grave"),
    [
        (chunk(6 * DAY), FAILED, None),  # not to be compressed yet
        (chunk(20 * DAY, state="compressed"), WELL, None),
        (chunk(8 * DAY), AWAKE_AGAIN, None),  # it has a run or two to come to it
        (chunk(20 * DAY, made=DAY), WELL, None),  # as has a chunk that late rows have just made
        (chunk(20 * DAY), FAILED, True),
        (chunk(20 * DAY), DISABLED, True),
        (chunk(8 * DAY), FAILED, True),
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
def test_a_chunk_past_the_age_for_compression(state: ChunkState, job: Job | None, grave: bool | None) -> None:
    found = _not_compressed([state], policies(job), NOW)
    told = [(problem, is_grave) for problem, is_grave in found if "1 chunk past 7 days is not compressed" in problem]
    assert [is_grave for _, is_grave in told] == ([] if grave is None else [grave])
    if job is FAILED and grave:
        assert "job 7 failed: disk full" in told[0][0]


def test_a_job_that_failed_and_left_nothing_undone_is_a_warning() -> None:
    found = _not_compressed([chunk(20 * DAY, state="compressed")], policies(FAILED), NOW)
    assert found == [("compression: job 7 failed: disk full; no chunk is left undone by it", False)]


def test_a_chunk_that_is_to_go_need_not_be_compressed() -> None:
    assert _not_compressed([chunk(40 * DAY)], policies(FAILED, KEEP), NOW) == [
        ("compression: job 7 failed: disk full; no chunk is left undone by it", False)
    ]


@pytest.mark.parametrize(
    ("state", "job", "grave"),
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
    state: ChunkState, job: Job | None, grave: bool | None
) -> None:
    found = _overdue([state], policies(job, KEEP), NOW, dry=False)
    assert [is_grave for _, is_grave in found] == ([] if grave is None else [grave])
    assert all(problem.startswith("1 chunk should be gone (c, past its time since 2026-0") for problem, _ in found)


@pytest.mark.parametrize("way", ["flow", "archive"])
@pytest.mark.parametrize(
    ("state", "dry", "grave"),
    [
        (chunk(31 * DAY), False, False),  # in use for a run or two
        (chunk(33 * DAY), False, True),
        (chunk(90 * DAY, made=DAY), False, False),
        (chunk(90 * DAY), True, False),
    ],
)
def test_a_chunk_past_its_time_that_the_flow_is_to_drop(way: str, state: ChunkState, dry: bool, grave: bool) -> None:
    found = _overdue([state], replace(policies(WELL), keep=KEEP, way=way), NOW, dry)  # type: ignore[arg-type]
    assert [is_grave for _, is_grave in found] == [grave]


def test_chunks_with_one_reason_are_one_finding() -> None:
    found = _overdue([chunk(40 * DAY), chunk(50 * DAY)], policies(FAILED, KEEP), NOW, dry=False)
    assert len(found) == 1
    assert found[0][0].startswith("2 chunks should be gone")


@pytest.mark.parametrize(
    ("state", "keep", "archive_after", "told"),
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
    state: ChunkState, keep: timedelta | None, archive_after: timedelta | None, told: str
) -> None:
    found = Policies(WANTED, (FAILED,), keep, "flow", (), archive_after)
    assert what_next(state, found, NOW) == told
