"""The rows of a file in the order of their days, in memory while they are few, else on the disk: an external sort."""

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

_RUN_BYTES = 16 << 20  # sorted at once: three times as much is in memory meanwhile
_PIECE_ROWS, _PIECE_BYTES = 8_192, 4 << 20  # read at once
_MEMORY_BYTES = 32 << 20  # what is kept in memory before anything goes to the disk
_CODEC = "lz4"


@dataclass(frozen=True)
class SpooledPiece:
    """Rows of one day, growing. `day`: ms since 1970 of its start; `first`, `last`: row numbers. `in_memory`: the rows,
    where they are in memory."""

    day: int
    first: int
    last: int
    rows: int
    in_memory: pa.RecordBatch | None
    extent: tuple[int, int, int] = (0, 0, 0)  # in the file: offset, stored bytes, bytes


class Spool:
    """Where the rows of all files of a backfill wait, until it is closed. The file on the disk has no name: it is gone
    with the process, however that ends. Raises `Terminal` where the disk is full."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._end = 0
        self._in_memory = 0

    def close(self) -> None:
        """Give the room back."""
        if self._file is not None:
            with suppress(OSError):  # a full disk once more
                self._file.close()
            self._file = None

    def store(self, day: int, rows: pa.RecordBatch) -> SpooledPiece:
        """Keep rows of one day, in the order of their numbers, which are the first column."""
        numbers = rows.column(0)
        first, last, size = numbers[0].as_py(), numbers[-1].as_py(), rows.nbytes
        # Once the disk is used nothing more: a piece of a few rows, however small, keeps all of its run in memory.
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
            self._file.flush()  # so that a full disk is told here
        place = (self._end, stored.size, data.size)
        self._end += stored.size
        return SpooledPiece(day, first, last, len(rows), None, place)

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
        raise Terminal(
            f"backfill: the rows of the files do not fit on the disk of TMPDIR ({tempfile.gettempdir()}):"
            f" {one_line(error)}; nothing was loaded: make room there, or set TMPDIR to where there is more"
        ) from error


@dataclass
class SpoolSection:
    """The part of a spool that has the rows of one file. `pieces` are in the order of day and row once it is sealed."""

    spool: Spool
    pieces: list[SpooledPiece] = field(default_factory=list)
    keys: tuple[bytes, ...] = ()
    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    _waiting: list[tuple[NDArray[np.int64], pa.RecordBatch]] = field(default_factory=list)
    _size: int = 0

    def add(self, rows: RowBlock, days: NDArray[np.int64]) -> None:
        """Take rows, and the day of each in ms since 1970."""
        if not self._waiting and not self.pieces:
            self.keys = rows.keys
            self.schema = pa.schema([("row", pa.int64()), *((f"v{i}", pa.binary()) for i in range(len(rows.keys)))])
        batch = pa.record_batch([pa.array(rows.row), *rows.values], schema=self.schema)
        self._waiting.append((days, batch))
        self._size += batch.nbytes
        if self._size >= _RUN_BYTES:
            self._sort()

    def seal(self) -> None:
        """All rows are there."""
        self._sort()
        self.pieces.sort(key=lambda piece: (piece.day, piece.first))
        pa.default_memory_pool().release_unused()  # the loads come on top of what is kept: 100 MB less at their peak

    def read(self, piece: SpooledPiece) -> pa.RecordBatch:
        """The rows of a piece: their numbers, then a column a key."""
        return self.spool.read(piece, self.schema)

    def _sort(self) -> None:
        if not self._waiting:
            return
        days = np.concatenate([found for found, _ in self._waiting])
        rows = _joined([batch for _, batch in self._waiting], self.schema)
        self._waiting, self._size = [], 0
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
    """Parts that are small enough to be read at once; a row is never split."""
    if len(rows) > 1 and (len(rows) > _PIECE_ROWS or rows.nbytes > _PIECE_BYTES):
        middle = len(rows) // 2
        yield from _cut(rows.slice(0, middle))
        yield from _cut(rows.slice(middle))
    else:
        yield rows
