"""Into which chunks the days of a backfill fall, against a count of hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.backfill.chunk_map import (
    ChunkCounts,
    ChunkMap,
    NewChunks,
    compressed_borders,
    count_chunks,
    reaches_compressed,
    to_compress,
)
from tasks.files.file_reader import DAY_MS
from tasks.maintain.chunk_states import ChunkState, State
from tasks.table.chunks import Chunk

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_MS = 3_600_000
NOW = EPOCH + timedelta(days=60)


def chunk(start_hours: int, hours: int, state: State) -> ChunkState:
    start = EPOCH + timedelta(hours=start_hours)
    table = Chunk("s", f"c{start_hours}", start, start + timedelta(hours=hours))
    return ChunkState(table, 1, 1, state, NOW)


def layout(interval_hours: int, cells: dict[int, State]) -> ChunkMap:
    """Chunks of so many hours each, by their number since 1970."""
    states = [chunk(number * interval_hours, interval_hours, state) for number, state in sorted(cells.items())]
    return ChunkMap(tuple(states), timedelta(hours=interval_hours), NOW)


INTERVALS = st.sampled_from([6, 8, 24, 36, 168])
CELLS = st.dictionaries(st.integers(0, 12), st.sampled_from(["rows", "compressed", "partial", "frozen"]))


@given(interval=INTERVALS, cells=CELLS, days=st.sets(st.integers(0, 20)))
def test_every_chunk_that_a_day_reaches_is_counted_once_by_its_state(
    interval: int, cells: dict[int, State], days: set[int]
) -> None:
    met = {hour // interval for day in days for hour in range(24 * day, 24 * day + 24)}
    rows = sum(cells.get(number) == "rows" for number in met)
    new = sum(number not in cells for number in met)
    expected = ChunkCounts(rows, len(met) - rows - new, new)
    assert count_chunks([day * DAY_MS for day in days], layout(interval, cells)) == expected


def test_a_chunk_of_a_former_interval_is_found() -> None:
    found = ChunkMap((chunk(0, 24 * 10, "compressed"),), timedelta(days=7), NOW)
    assert count_chunks([2 * DAY_MS, 9 * DAY_MS], found) == ChunkCounts(0, 1, 0)
    assert count_chunks([9 * DAY_MS, 10 * DAY_MS], found) == ChunkCounts(0, 1, 1)


@given(interval=INTERVALS, cells=CELLS, slices=st.lists(st.lists(st.integers(-100, 24 * 100), max_size=30), max_size=4))
def test_each_chunk_that_is_not_there_is_opened_once_by_the_time_of_an_event(
    interval: int, cells: dict[int, State], slices: list[list[int]]
) -> None:
    openings = NewChunks(layout(interval, cells))
    opened: list[int] = []
    for hours in slices:
        found = openings.of(np.array(sorted(hours), np.int64) * 1000 * HOUR_MS)
        assert {moment // 1000 // HOUR_MS for moment in found} <= set(hours)
        opened += [moment // 1000 // HOUR_MS // interval for moment in found]
    met = {hour // interval for hours in slices for hour in hours}
    assert sorted(opened) == sorted(met - cells.keys())


@given(interval=INTERVALS, cells=CELLS)
def test_borders_are_the_days_at_which_compressed_chunks_start_and_end(interval: int, cells: dict[int, State]) -> None:
    compressed = {
        hour // 24
        for number, state in cells.items()
        if state != "rows"
        for hour in range(number * interval, (number + 1) * interval)
    }
    expected = [day * DAY_MS for day in range(200) if (day in compressed) != (day - 1 in compressed)]
    assert compressed_borders(layout(interval, cells)) == expected


@given(cells=CELLS, low=st.integers(0, 400 * HOUR_MS * 1000), length=st.integers(0, 100 * HOUR_MS * 1000))
def test_times_reach_a_compressed_chunk_if_they_overlap_it(cells: dict[int, State], low: int, length: int) -> None:
    day_us = DAY_MS * 1000
    numbers = range(low // day_us, (low + length) // day_us + 1)
    expected = any(cells.get(number, "rows") != "rows" for number in numbers)
    assert reaches_compressed(layout(24, cells), low, low + length) == expected


def test_a_batch_without_times_reaches_no_compressed_chunk() -> None:
    assert not reaches_compressed(layout(24, {0: "compressed"}), None, None)


def test_the_end_of_a_chunk_is_not_in_it() -> None:
    found = layout(24, {1: "compressed"})
    day_us = DAY_MS * 1000
    assert not reaches_compressed(found, 0, day_us - 1)
    assert reaches_compressed(found, 0, day_us)
    assert reaches_compressed(found, 2 * day_us - 1, 3 * day_us)
    assert not reaches_compressed(found, 2 * day_us, 3 * day_us)


def test_chunks_past_the_age_that_are_not_wholly_compressed_are_to_be() -> None:
    found = layout(24, {0: "rows", 1: "compressed", 2: "partial", 3: "frozen", 4: "rows", 58: "rows", 59: "rows"})
    days = [day * DAY_MS for day in (0, 1, 2, 3, 58, 59)]

    def starts(after: timedelta, before: int | None = None) -> list[int]:
        wanted = to_compress(found, days, after, before)
        return [(again.state.chunk.range_start - EPOCH).days for again in wanted]

    assert starts(timedelta(days=1)) == [0, 2, 58]
    assert starts(timedelta(0)) == [0, 2, 58, 59]
    assert starts(timedelta(days=7)) == [0, 2]
    assert starts(timedelta(days=7), before=2 * DAY_MS) == [0]
