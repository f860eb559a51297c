"""Batches of a file: each row once, sorted by day and row, without gaps, within limits and borders."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.base.addresses import IdRange, parse_id
from tasks.columns.batch import Batch, BatchLimits
from tasks.columns.decode import TimeWindow
from tasks.files import file_reader as module
from tasks.files import spool as spool_module
from tasks.files.file_reader import DAY_MS, FileReader, clip_ranges, count_rows, row_address
from tasks.files.formats.blocks import RowBlock
from tasks.files.spool import Spool, SpoolSection
from tests.support.events_layouts import FLAT, JSON
from tests.support.spooled import spooled_section

EVERY_TIME = TimeWindow(-(2**62), 2**62)
MUCH = BatchLimits(1_000_000, 1 << 40)
FIRST_DAY = 1_600_000_000_000 // DAY_MS * DAY_MS


def reader(
    section: SpoolSection, gaps: Sequence[IdRange], limits: BatchLimits = MUCH, borders: Sequence[int] = ()
) -> FileReader:
    return FileReader("file:x", section, gaps, limits, JSON, EVERY_TIME, borders)


def batches(found: FileReader) -> Iterator[Batch]:
    while (batch := found.read()) is not None:
        yield batch


def addresses(batch: Batch) -> list[int]:
    """The rows of a batch. Checks that the number in the content equals the one in the address."""
    found = []
    for entry in range(batch.read):
        entry_id, (_, data) = batch.raw(entry)
        assert json.loads(data)["properties"]["row"] == parse_id(entry_id) & (1 << 64) - 1
        found.append(parse_id(entry_id))
    return found


@contextmanager
def small_pieces(rows: int, run_bytes: int, memory_bytes: int) -> Iterator[None]:
    """Make runs, pieces and memory so small that a few rows need many of them and the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool_module, "_PIECE_ROWS", rows)
        patch.setattr(spool_module, "_RUN_BYTES", run_bytes)
        patch.setattr(spool_module, "_MEMORY_BYTES", memory_bytes)
        yield


def days_of(numbers: list[int]) -> list[int]:
    return [0 if number == 0 else FIRST_DAY + number * DAY_MS for number in numbers]


@settings(max_examples=150)
@given(st.data())
def test_every_row_comes_once_sorted_by_day_and_row_for_any_sizes_gaps_and_borders(
    data: st.DataObject,
) -> None:
    days = days_of(data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=60)))
    rows = data.draw(st.integers(1, 9))
    with (
        small_pieces(rows, data.draw(st.sampled_from([1, 900, 1 << 20])), data.draw(st.sampled_from([0, 2_000]))),
        closing(Spool()) as spool,
    ):
        section = spooled_section(spool, days, data.draw(st.integers(1, 30)))
        everything = sorted(row_address(day, row) for row, day in enumerate(days, 1))
        end = everything[-1] + 1
        # Edges at rows, next to rows, and at days: the ranges that an earlier run left.
        near = [edge + step for edge in everything for step in (0, 1)] + [
            row_address(day, 0) for day in days_of([0, 3, 5])
        ]
        edges = sorted({*data.draw(st.lists(st.sampled_from(near), max_size=8)), 0, end})
        spans = [IdRange(low, high) for low, high in pairwise(edges) if high <= end]
        gaps = [span for span in spans if data.draw(st.booleans())]
        limits = BatchLimits(data.draw(st.integers(1, 20)), data.draw(st.sampled_from([1, 1_500, 1 << 30])))
        borders = [FIRST_DAY + n * DAY_MS for n in data.draw(st.lists(st.integers(0, 7), max_size=3))]
        found = list(batches(reader(section, gaps, limits, borders)))

    wanted = [one for one in everything if any(gap.start <= one < gap.stop for gap in gaps)]
    assert [one for batch in found for one in addresses(batch)] == wanted
    for batch in found:
        inside = addresses(batch)
        assert len(inside) <= limits.rows
        assert all(batch.ids.start <= one < batch.ids.stop for one in inside)
        for border in borders:
            assert len({one >= row_address(border, 0) for one in inside}) <= 1
    # Together the slices are the gaps, each slice within one of them.
    at = 0
    for gap in gaps:
        reached = gap.start
        while reached < gap.stop:
            assert found[at].ids.start == reached
            reached = found[at].ids.stop
            at += 1
        assert reached == gap.stop
    assert at == len(found)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=40))
def test_the_halves_of_a_batch_cover_its_rows_and_its_range(numbers: list[int]) -> None:
    with closing(Spool()) as spool:
        section = spooled_section(spool, days_of(numbers))
        (batch,) = batches(reader(section, [IdRange(0, 1 << 120)]))
        first, second = batch.split()
    assert (first.ids.start, first.ids.stop, second.ids.stop) == (batch.ids.start, second.ids.start, batch.ids.stop)
    assert addresses(first) + addresses(second) == addresses(batch)
    assert abs(first.read - second.read) <= 1
    assert (len(first.encoded.faults) + len(second.encoded.faults), first.read + second.read) == (
        len(batch.encoded.faults),
        len(numbers),
    )
    assert sorted(first.encoded.rows.to_pylist() + second.encoded.rows.to_pylist()) == sorted(
        batch.encoded.rows.to_pylist()
    )


def test_a_range_without_rows_gives_an_empty_batch() -> None:
    with closing(Spool()) as spool:
        section = spooled_section(spool, days_of([1, 3]))
        empty = IdRange(row_address(days_of([2])[0], 0), row_address(days_of([2])[0], 9))
        (batch,) = batches(reader(section, [empty]))
    assert (batch.ids, batch.read, len(batch.encoded.rows)) == (empty, 0, 0)


def test_two_ranges_may_begin_in_one_piece() -> None:
    with closing(Spool()) as spool:
        section = spooled_section(spool, days_of([1] * 10))
        day = days_of([1])[0]
        gaps = [IdRange(row_address(day, 3), row_address(day, 5)), IdRange(row_address(day, 8), row_address(day, 10))]
        assert len(section.pieces) == 1
        found = [addresses(batch) for batch in batches(reader(section, gaps))]
    assert found == [[row_address(day, 3), row_address(day, 4)], [row_address(day, 8), row_address(day, 9)]]


def test_the_days_of_a_batch_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DAYS_OF_A_SLICE", 4)
    with closing(Spool()) as spool:
        section = spooled_section(spool, days_of([0, *range(1, 11)]))
        assert [batch.read for batch in batches(reader(section, [IdRange(0, 1 << 120)]))] == [4, 4, 3]


def test_fields_keep_their_columns() -> None:
    with closing(Spool()) as spool:
        section = SpoolSection(spool)
        keys = (b"time", b"event_id", b"event_type", b"user_id", b"properties")
        values = [b"2020-09-14T00:00:00Z", str(uuid.UUID(int=1)).encode(), b"t", b"u", None]
        columns = tuple(pa.array([value], pa.binary()) for value in values)
        section.add(RowBlock(np.array([1]), keys, columns), np.array([FIRST_DAY]))
        section.seal()
        (batch,) = batches(FileReader("file:x", section, [IdRange(0, 1 << 120)], MUCH, FLAT, EVERY_TIME))
    entry_id, fields = batch.raw(0)
    assert entry_id == f"{FIRST_DAY}-1"
    assert fields == [part for pair in zip(keys[:4], values[:4], strict=True) for part in pair]
    assert (len(batch.encoded.rows), list(batch.encoded.faults)) == (1, [])


def test_ranges_are_clipped_to_an_interval() -> None:
    gaps = [IdRange(0, 10), IdRange(20, 30), IdRange(40, 50)]
    assert clip_ranges(gaps, 5, 45) == (IdRange(5, 10), IdRange(20, 30), IdRange(40, 45))
    assert clip_ranges(gaps, 10, 20) == ()


def test_the_rows_in_gaps_are_counted() -> None:
    day = days_of([1])[0]
    with closing(Spool()) as spool:
        section = spooled_section(spool, days_of([1, 2, 2] * 5))
        assert count_rows(section, [IdRange(0, 1 << 120)]) == 15
        assert count_rows(section, [IdRange(0, row_address(day, 5))]) == 2
        assert (
            count_rows(
                section, [IdRange(row_address(day, 2), row_address(day, 4)), IdRange(row_address(day, 7), 1 << 120)]
            )
            == 13
        )
        assert count_rows(section, []) == 0
