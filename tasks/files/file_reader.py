"""Read a file as batches in time order, which are loaded like the batches of a stream.

The address of a row is `ms-row`: the start of the day (UTC) of its event in ms since 1970, and its row number. A row
without a valid time, or with a time before 1970, has day 0. Addresses sort by day and a batch covers a gapless range of
them, so the ledger treats files and streams alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.base.addresses import IdRange
from tasks.columns.batch import Batch, BatchLimits
from tasks.columns.decode import TimeWindow
from tasks.columns.entries import EntryColumns
from tasks.columns.row_layout import RowLayout
from tasks.files.spool import SpooledPiece, SpoolSection

DAY_MS = 86_400_000
_DAYS_OF_A_SLICE = 200  # each day may have its own chunk, and a transaction locks all its chunks


def row_address(day: int, row: int) -> int:
    """The address `day-row` as a number."""
    return (day << 64) | row


class FileReader:
    """Reads the remaining address ranges of a file, one slice at a time.

    `borders`: days (ms since 1970) that no slice crosses. A `read` that fails has consumed nothing and can be repeated.
    """

    def __init__(
        self,
        stream: str,
        section: SpoolSection,
        gaps: Sequence[IdRange],
        limits: BatchLimits,
        layout: RowLayout,
        window: TimeWindow,
        borders: Sequence[int] = (),
    ) -> None:
        self.stream = stream
        self._section = section
        self._gaps = list(gaps)
        self._limits = limits
        self._layout = layout
        self._window = window
        self._borders = np.array(sorted(borders), np.int64)
        self._at = 0  # the next piece

    def read(self) -> Batch | None:
        """The next slice, or None at the end. A range without rows gives an empty batch."""
        if not self._gaps:
            return None
        gap = self._gaps[0]
        parts: list[tuple[int, pa.RecordBatch]] = []
        rows = size = days = 0
        start, at, stop = gap.start, self._at, gap.stop
        while at < len(self._section.pieces):
            piece = self._section.pieces[at]
            if row_address(piece.day, piece.last) < start:
                at += 1
                continue
            if row_address(piece.day, piece.first) >= gap.stop:
                break
            if parts and self._is_full(parts, piece, rows, size, days):
                stop = row_address(parts[-1][0], parts[-1][1].column(0)[-1].as_py()) + 1
                break
            part = _between(self._section.read(piece), piece, start, gap.stop)
            remaining = self._limits.rows - rows
            if len(part):
                days += not parts or parts[-1][0] != piece.day
                parts.append((piece.day, part.slice(0, remaining)))
                rows += min(len(part), remaining)
                size += part.nbytes
            if len(part) > remaining:
                stop = row_address(piece.day, part.column(0)[remaining - 1].as_py()) + 1
                break
            if row_address(piece.day, piece.last) >= gap.stop:
                break  # the next range may begin in the same piece
            at += 1
        batch = Batch(self.stream, IdRange(gap.start, stop), self._groups(parts), self._layout, self._window)
        self._at = at
        if stop < gap.stop:
            self._gaps[0] = IdRange(stop, gap.stop)
        else:
            del self._gaps[0]
        return batch

    def _is_full(
        self, parts: list[tuple[int, pa.RecordBatch]], piece: SpooledPiece, rows: int, size: int, days: int
    ) -> bool:
        if rows >= self._limits.rows or size >= self._limits.bytes:
            return True
        last = parts[-1][0]
        if piece.day == last:
            return False
        crosses = np.searchsorted(self._borders, last, "right") != np.searchsorted(self._borders, piece.day, "right")
        return days >= _DAYS_OF_A_SLICE or bool(crosses)

    def _groups(self, parts: list[tuple[int, pa.RecordBatch]]) -> list[EntryColumns]:
        if not parts:
            return []
        ids = [pc.binary_join_element_wise(pa.scalar(f"{day}"), _texts(part), "-") for day, part in parts]
        columns = zip(*(part.columns[1:] for _, part in parts), strict=True)
        values = tuple(pa.concat_arrays(list(column)) for column in columns)
        return [EntryColumns(pa.concat_arrays(ids).cast(pa.binary()), self._section.keys, values)]


def _texts(part: pa.RecordBatch) -> pa.Array:
    return part.column(0).cast(pa.string())


def _between(rows: pa.RecordBatch, piece: SpooledPiece, start: int, stop: int) -> pa.RecordBatch:
    """The rows of a piece whose addresses are in [start, stop)."""
    if start <= row_address(piece.day, piece.first) and row_address(piece.day, piece.last) < stop:
        return rows
    numbers = np.asarray(rows.column(0))
    first, beyond = start - row_address(piece.day, 0), stop - row_address(piece.day, 0)
    low = int(np.searchsorted(numbers, max(0, first))) if first < 1 << 63 else len(numbers)
    high = int(np.searchsorted(numbers, beyond)) if beyond < 1 << 63 else len(numbers)
    return rows.slice(low, max(0, high - low))


def clip_ranges(gaps: Sequence[IdRange], start: int, stop: int) -> tuple[IdRange, ...]:
    """The parts of `gaps` in [start, stop)."""
    parts = (IdRange(max(gap.start, start), min(gap.stop, stop)) for gap in gaps)
    return tuple(part for part in parts if part.start < part.stop)


def count_rows(section: SpoolSection, gaps: Sequence[IdRange]) -> int:
    """The number of rows with addresses in `gaps`.

    Pieces that a gap covers in part are read, because their row numbers have holes for rows of other days.
    """
    total = 0
    for piece in section.pieces:
        first, last = row_address(piece.day, piece.first), row_address(piece.day, piece.last)
        for gap in gaps:
            low, high = max(first, gap.start), min(last + 1, gap.stop)
            if low < high:
                whole = (low, high) == (first, last + 1)
                total += piece.rows if whole else len(_between(section.read(piece), piece, low, high))
    return total
