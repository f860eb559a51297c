"""The external sort of rows by day, in memory and on disk."""

from __future__ import annotations

import os
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.files import spool as module
from tasks.files.formats.blocks import RowBlock
from tasks.files.spool import Spool, SpoolSection

VALUES = st.none() | st.binary(max_size=30)


def rows_of(first: int, columns: list[list[bytes | None]]) -> RowBlock:
    numbers = np.arange(first, first + len(columns[0]), dtype=np.int64)
    arrays = tuple(pa.array(column, pa.binary()) for column in columns)
    return RowBlock(numbers, tuple(f"k{n}".encode() for n in range(len(columns))), arrays)


def content(section: SpoolSection) -> list[tuple[int, int, tuple[bytes | None, ...]]]:
    """Day, row and values of all rows in the order of the pieces. Checks the metadata of each piece."""
    found = []
    for piece in section.pieces:
        batch = section.read(piece)
        numbers = batch.column(0).to_pylist()
        assert (piece.first, piece.last, piece.rows) == (numbers[0], numbers[-1], len(numbers))
        assert numbers == sorted(set(numbers))
        columns = [column.to_pylist() for column in batch.columns[1:]]
        found += [(piece.day, number, values) for number, *values in zip(numbers, *columns, strict=True)]
    return [(day, number, tuple(values)) for day, number, values in found]


@settings(max_examples=100)
@given(
    rows=st.lists(st.tuples(st.integers(0, 5), VALUES, VALUES), min_size=1, max_size=80),
    block=st.integers(1, 40),
    piece_rows=st.integers(1, 20),
    run_bytes=st.sampled_from([1, 300, 1 << 20]),
    memory_bytes=st.sampled_from([0, 500, 1 << 20]),
)
def test_all_rows_come_back_sorted_by_day_and_row_at_any_memory_size(
    rows: list[tuple[int, bytes | None, bytes | None]], block: int, piece_rows: int, run_bytes: int, memory_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, closing(Spool()) as spool:
        patch.setattr(module, "_PIECE_ROWS", piece_rows)
        patch.setattr(module, "_RUN_BYTES", run_bytes)
        patch.setattr(module, "_MEMORY_BYTES", memory_bytes)
        section = SpoolSection(spool)
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            columns = [[row[1] for row in part], [row[2] for row in part]]
            section.add(rows_of(start + 1, columns), np.array([row[0] for row in part], np.int64))
        section.seal()
        expected = sorted((row[0], number, row[1:]) for number, row in enumerate(rows, 1))
        assert [(day, number, values) for day, number, values in content(section)] == expected
        for one, other in pairwise(section.pieces):
            assert (one.day, one.last) < (other.day, other.first)
            assert one.rows <= piece_rows


def test_two_files_share_a_spool_without_mixing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEMORY_BYTES", 0)
    with closing(Spool()) as spool:
        sections = []
        for text in (b"one", b"two"):
            section = SpoolSection(spool)
            section.add(rows_of(1, [[text] * 3]), np.array([2, 1, 2], np.int64))
            section.seal()
            sections.append(section)
        found = [content(section) for section in sections]
    assert found == [[(1, 2, (text,)), (2, 1, (text,)), (2, 3, (text,))] for text in (b"one", b"two")]


def test_the_file_on_disk_has_no_name_and_is_freed_at_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_MEMORY_BYTES", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def open_here() -> int:
        links = list(Path("/proc/self/fd").iterdir())
        return sum(str(tmp_path) in str(link.readlink()) for link in links if link.is_symlink())

    with closing(Spool()) as spool:
        section = SpoolSection(spool)
        section.add(rows_of(1, [[os.urandom(1_000)] * 100]), np.zeros(100, np.int64))
        section.seal()
        assert list(tmp_path.iterdir()) == []
        assert open_here() == 1
    assert open_here() == 0


def test_long_rows_are_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE_BYTES", 1_000)
    with closing(Spool()) as spool:
        section = SpoolSection(spool)
        section.add(rows_of(1, [[b"x" * 400] * 9]), np.zeros(9, np.int64))
        section.seal()
        assert all(piece.rows <= 2 for piece in section.pieces)
        assert [number for _, number, _ in content(section)] == list(range(1, 10))


def test_a_few_rows_of_another_day_in_each_run_do_not_keep_the_runs_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows without a valid time do this. The memory holds two of the 40 runs of 1 MB."""
    monkeypatch.setattr(module, "_RUN_BYTES", 1_000_000)
    monkeypatch.setattr(module, "_MEMORY_BYTES", 2_100_000)
    before = pa.total_allocated_bytes()
    with closing(Spool()) as spool:
        section = SpoolSection(spool)
        for run in range(40):
            section.add(
                rows_of(1 + run * 1_001, [[os.urandom(1_000) for _ in range(1_001)]]), np.array([0] + [1] * 1_000)
            )
        section.seal()
        assert pa.total_allocated_bytes() - before < 5_000_000
        assert len(content(section)) == 40 * 1_001
