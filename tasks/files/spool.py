"""An external sort of the rows of files by day, in memory as long as they fit and then on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.errors.exceptions import Terminal
from infra.errors.redact import one_line
from tasks.files.formats.blocks import RowBlock

_RUN_BYTES = 16 << 20  # sorted at once; needs three times as much memory
_PIECE_ROWS, _PIECE_BYTES = 8_192, 4 << 20  # read at once
_MEMORY_BYTES = 32 << 20  # rows kept in memory before the disk is used
_CODEC = "lz4"


@dataclass(frozen=True)
class SpooledPiece:
    """Rows of one day in increasing order. `day`: its start in ms since 1970. `first`, `last`: row numbers.

    `in_memory`: the rows if they are in memory. `extent`: otherwise, their position in the spool file.
    """

    day: int
    first: int
    last: int
    rows: int
    in_memory: pa.RecordBatch | None
    extent: tuple[int, int, int] = (0, 0, 0)  # offset, stored bytes, decompressed bytes


class Spool:
    """Temporary storage for the rows of all files of a backfill. Raises `Terminal` if the disk is full.

    The file on disk has no name, so it disappears with the process however that ends.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._end = 0
        self._in_memory = 0

    def close(self) -> None:
        """Free the disk space."""
        if self._file is not None:
            with suppress(OSError):  # the disk may still be full
                self._file.close()
            self._file = None

    def store(self, day: int, rows: pa.RecordBatch) -> SpooledPiece:
        """Store rows of one day. The first column holds their numbers in increasing order."""
        numbers = rows.column(0)
        first, last, size = numbers[0].as_py(), numbers[-1].as_py(), rows.nbytes
        # Once the disk is in use, nothing stays in memory: even a small piece would keep its whole run alive.
        if self._file is None and self._in_memory + size <= _MEMORY_BYTES:
            self._in_memory += size
            return SpooledPiece(day, first, last, len(rows), rows)
        data = rows.serialize()
        stored = pa.compress(data, codec=_CODEC)
        with _translate_errors():
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="spillway-")  # noqa: SIM115  # closed by close()
            self._file.seek(self._end)
            self._file.write(stored)
            self._file.flush()  # reports a full disk here
        extent = (self._end, stored.size, data.size)
        self._end += stored.size
        return SpooledPiece(day, first, last, len(rows), None, extent)

    def read(self, piece: SpooledPiece, schema: pa.Schema) -> pa.RecordBatch:
        """The rows of a piece."""
        if piece.in_memory is not None:
            return piece.in_memory
        assert self._file is not None  # pieces are read before the spool is closed
        offset, stored, size = piece.extent
        self._file.seek(offset)
        data = pa.decompress(self._file.read(stored), size, codec=_CODEC)
        return pa.ipc.read_record_batch(data, schema)


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fault = f"the rows of the files do not fit on the disk of TMPDIR ({tempfile.gettempdir()}): {one_line(error)}"
        raise Terminal(
            f"backfill: {fault}; nothing was loaded; free space there, or set TMPDIR to a larger disk", fault
        ) from error


@dataclass
class SpoolSection:
    """The rows of one file in a spool. Once sealed, `pieces` are sorted by day and row."""

    spool: Spool
    pieces: list[SpooledPiece] = field(default_factory=list)
    keys: tuple[bytes, ...] = ()
    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    _unsorted: list[tuple[NDArray[np.int64], pa.RecordBatch]] = field(default_factory=list)
    _size: int = 0

    def add(self, rows: RowBlock, days: NDArray[np.int64]) -> None:
        """Add rows. `days`: the day of each row in ms since 1970."""
        if not self._unsorted and not self.pieces:
            self.keys = rows.keys
            self.schema = pa.schema([("row", pa.int64()), *((f"v{i}", pa.binary()) for i in range(len(rows.keys)))])
        batch = pa.record_batch([pa.array(rows.row), *rows.values], schema=self.schema)
        self._unsorted.append((days, batch))
        self._size += batch.nbytes
        if self._size >= _RUN_BYTES:
            self._sort()

    def seal(self) -> None:
        """Sort the remaining rows. Call it after the last `add`."""
        self._sort()
        self.pieces.sort(key=lambda piece: (piece.day, piece.first))
        pa.default_memory_pool().release_unused()  # lowers the peak of the loads by 100 MB

    def read(self, piece: SpooledPiece) -> pa.RecordBatch:
        """The rows of a piece: their numbers, then one column per key."""
        return self.spool.read(piece, self.schema)

    def _sort(self) -> None:
        if not self._unsorted:
            return
        days = np.concatenate([found for found, _ in self._unsorted])
        rows = _joined([batch for _, batch in self._unsorted], self.schema)
        self._unsorted, self._size = [], 0
        if (np.diff(days) < 0).any():
            order = np.argsort(days, kind="stable")
            days, rows = days[order], rows.take(pa.array(order))
        starts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
        for start, stop in pairwise(starts):
            for part in _cut(rows.slice(start, stop - start)):
                self.pieces.append(self.spool.store(int(days[start]), part))


def _joined(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    table = pa.Table.from_batches(batches, schema).combine_chunks()
    return table.to_batches()[0]


def _cut(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Split rows into parts small enough to read at once. A row is never split."""
    if len(rows) > 1 and (len(rows) > _PIECE_ROWS or rows.nbytes > _PIECE_BYTES):
        middle = len(rows) // 2
        yield from _cut(rows.slice(0, middle))
        yield from _cut(rows.slice(middle))
    else:
        yield rows
