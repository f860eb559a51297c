"""The plan counts rows past the retention horizon by day, and all sources together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors.exceptions import Terminal
from tasks.backfill.backfill_plan import apply_retention, horizon_day, planned
from tasks.backfill.chunk_map import ChunkMap
from tasks.backfill.source import BackfillSource, leave_out_copies
from tasks.base.addresses import IdRange
from tasks.columns.decode import TimeWindow
from tasks.files.file_reader import DAY_MS, row_address
from tasks.files.scan import ScannedFile
from tasks.files.spool import Spool, SpoolSection
from tests.support.events_layouts import EVENTS, JSON
from tests.support.spooled import spooled_section

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = EPOCH + timedelta(days=100, hours=13)
CHUNKS = {EVENTS.regclass: ChunkMap((), timedelta(days=7), NOW)}
EVER = TimeWindow(-(2**62), 2**62)


def no_reader(gaps: Sequence[IdRange], limits: Any) -> Any:
    raise AssertionError("a plan reads nothing")


def source(days: list[int], section: SpoolSection | None, ledger_name: str = "file:x") -> BackfillSource:
    """A file, or without a section a stream, of which nothing is loaded yet."""
    counted = {day: days.count(day) for day in set(days)}
    end = max((row_address(day, row) for row, day in enumerate(days, 1)), default=0) + 1
    scanned: Any = section and ScannedFile(None, "", len(days), JSON, counted, section)  # type: ignore[arg-type]
    return BackfillSource(
        ledger_name,
        ledger_name,
        EVENTS.regclass,
        len(days),
        len(days),
        (IdRange(0, end),),
        counted,
        no_reader,
        file=scanned,
        tables=(EVENTS.regclass,),
    )


def inside(gaps: Sequence[IdRange], days: list[int]) -> list[int]:
    """The days of the rows that have their address in the gaps."""
    return [
        day for row, day in enumerate(days, 1) if any(gap.start <= row_address(day, row) < gap.stop for gap in gaps)
    ]


def test_the_horizon_is_the_first_day_that_is_not_wholly_expired() -> None:
    assert horizon_day(timedelta(days=30), NOW) == 70 * DAY_MS
    assert horizon_day(timedelta(days=30, hours=14), NOW) == 69 * DAY_MS
    assert horizon_day(None, NOW) is None


@given(st.lists(st.integers(0, 99), min_size=1, max_size=40), st.sampled_from([1, 30, 95, 100]))
def test_only_rows_past_the_horizon_are_left_out(numbers: list[int], keep: int) -> None:
    days = [number * DAY_MS for number in numbers]
    past = [day for day in days if 0 < day < (100 - keep) * DAY_MS]
    kept = [day for day in days if day not in past]
    with closing(Spool()) as spool:
        for way in ("fail", "skip", "load"):
            whole = source(days, spooled_section(spool, days))
            found = apply_retention(whole, timedelta(days=keep), NOW, way)  # type: ignore[arg-type]
            assert found.expired == len(past)
            left = kept if way == "skip" else days
            assert sorted(inside(found.gaps, days)) == sorted(left)
            assert found.remaining == len(left)
            assert set(found.days) == set(left)
            if way == "skip" and past:
                assert found.skipped_ids is not None
                assert sorted(inside([found.skipped_ids], days)) == sorted(past)
            else:
                assert found.skipped_ids is None


def test_nothing_expires_if_everything_is_kept() -> None:
    found = apply_retention(source([DAY_MS], None), None, NOW, "skip")
    assert (found.expired, found.remaining) == (0, 1)


def test_expired_entries_of_a_stream_cannot_be_skipped() -> None:
    stream = source([DAY_MS, DAY_MS, 99 * DAY_MS], None, "events")
    found = apply_retention(stream, timedelta(days=30), NOW, "load")
    assert (found.expired, found.remaining) == (2, 3)
    with pytest.raises(Terminal, match="2 entries of events are older than the retention horizon"):
        apply_retention(stream, timedelta(days=30), NOW, "skip")


def test_a_plan_adds_up_all_sources() -> None:
    both = source([0, DAY_MS, 20 * DAY_MS], None, "a"), source([DAY_MS, 8 * DAY_MS], None, "b")
    keep = timedelta(days=90)
    plan = planned([apply_retention(one, keep, NOW, "load") for one in both], CHUNKS, horizon_day(keep, NOW), EVER)
    assert (plan.rows, plan.remaining, plan.expired, plan.chunk_counts.new) == (5, 5, 3, 3)
    assert plan.horizon == EPOCH + timedelta(days=10)
    assert (plan.first_day, plan.last_day) == (EPOCH + timedelta(days=1), EPOCH + timedelta(days=20))


def test_times_outside_the_window_have_no_day_and_no_chunk() -> None:
    days = [0, 9 * DAY_MS, 10 * DAY_MS, 20 * DAY_MS, 21 * DAY_MS, 10**12 * DAY_MS]
    window = TimeWindow(10 * DAY_MS * 1000 + 1, 20 * DAY_MS * 1000)
    plan = planned([source(days, None)], CHUNKS, None, window)
    assert (plan.rows, plan.chunk_counts.new) == (6, 2)
    assert (plan.first_day, plan.last_day) == (EPOCH + timedelta(days=10), EPOCH + timedelta(days=20))


def test_a_plan_without_sources_is_empty() -> None:
    plan = planned([], CHUNKS, None, EVER)
    assert (plan.rows, plan.remaining, plan.first_day, plan.horizon, plan.chunk_counts.new) == (0, 0, None, None, 0)


def test_only_the_first_of_several_copies_is_loaded() -> None:
    sources = [source([DAY_MS], None, name) for name in ("a", "b", "a")]
    distinct = leave_out_copies(sources)
    assert [(found.remaining, found.state) for found in distinct] == [
        (1, "new"),
        (1, "new"),
        (0, "known"),
    ]
