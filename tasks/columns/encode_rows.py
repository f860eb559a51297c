"""Encode rows of any table for a COPY, one column at a time.

Format: https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4 (all integers big-endian)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.columns.types.column_type import ColumnType
from tasks.columns.wire import big_endian, byte_rows, data_of, offsets_of, validity

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
TRAILER = struct.pack("!h", -1)
_NULL_LENGTH = struct.pack("!i", -1)
_LENGTH = 4  # bytes of the length before a value
_FIELD_COUNT = 2  # bytes of the number of columns before a row
# The escapes of the text format. The backslash comes first, because the other escapes contain one.
_ESCAPES = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t"))
_NULL_TEXT = b"\\N"


def needs_text(rows: pa.RecordBatch, types: Sequence[ColumnType]) -> bool:
    """Whether a column has texts that only the server understands, so that all rows must travel as text."""
    return any(kind.arrow != column.type for kind, column in zip(types, rows.columns, strict=True))


def encode_rows(rows: pa.RecordBatch, types: Sequence[ColumnType]) -> pa.Array:
    """One COPY row per row: binary, n. In the text format if a column needs it, else in the binary format."""
    return encode_text(rows, types) if needs_text(rows, types) else encode_binary(rows, types)


def encode_text(rows: pa.RecordBatch, types: Sequence[ColumnType]) -> pa.Array:
    """One line of a text COPY per row: binary, n, with the columns in the order of `rows`."""
    columns = [
        _escaped((kind.to_text(column) if column.type == kind.arrow else column).cast(pa.binary()))
        for kind, column in zip(types, rows.columns, strict=True)
    ]
    lines = pc.binary_join_element_wise(*columns, pa.scalar(b"\t", pa.binary()))
    ended: pa.Array = pc.binary_join_element_wise(lines, pa.scalar(b"\n", pa.binary()), pa.scalar(b"", pa.binary()))
    return ended


def _escaped(values: pa.Array) -> pa.Array:
    data = data_of(values).tobytes()
    for sign, escaped in _ESCAPES:
        if sign in data:
            values = pc.replace_substring(values, sign, escaped)
    return values.fill_null(_NULL_TEXT)


def encode_binary(rows: pa.RecordBatch, types: Sequence[ColumnType]) -> pa.Array:
    """One row of a binary COPY per row: binary, n. A slice of its data buffer can be sent as it is (see `payload`).

    Columns: those of `rows`, in their order. Each has its type's `arrow`.
    """
    pieces = _Pieces(rows.num_rows)
    pieces.constant(struct.pack("!h", rows.num_columns))
    for kind, values in zip(types, rows.columns, strict=True):
        encoded = kind.encode(values)
        if isinstance(encoded, np.ndarray):
            pieces.fixed(encoded, kind.prefix, validity(values))
        else:
            pieces.varying(encoded, kind.prefix)
    return pieces.join()


class _Pieces:
    """The parts of n rows, from the left to the right. Neighbours of a fixed width become one block of bytes."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._pieces: list[pa.Array] = []
        self._block: list[NDArray[np.uint8] | bytes] = []  # of equal bytes in every row, or (n, width)

    def constant(self, same: bytes) -> None:
        """Bytes that each row has."""
        if self._block and isinstance(self._block[-1], bytes):
            self._block[-1] += same
        else:
            self._block.append(same)

    def fixed(self, table: NDArray[np.uint8], prefix: bytes, mask: pa.Buffer | None) -> None:
        """Values of one width, each with its length. `mask`: a validity bitmap, if there are nulls."""
        length = struct.pack("!i", len(prefix) + table.shape[1]) + prefix
        if mask is None:
            self.constant(length)
            self._block.append(table)
            return
        self._flush()
        self._pieces.append(byte_rows(self._matrix([length, table]), mask))  # a null becomes the length of null

    def varying(self, values: pa.Array, prefix: bytes) -> None:
        """Values of any width, each with its length."""
        lengths = np.diff(offsets_of(values))
        if not values.null_count:
            self._block.append(big_endian(lengths + len(prefix), ">i4"))
            if prefix:
                self.constant(prefix)
        elif prefix:
            self._flush()
            head = self._matrix([big_endian(lengths + len(prefix), ">i4"), prefix])
            self._pieces.append(byte_rows(head, validity(values)))
        else:
            self._block.append(big_endian(np.where(np.asarray(values.is_valid()), lengths, -1), ">i4"))
        self._flush()
        self._pieces.append(_empty_nulls(values, lengths))

    def join(self) -> pa.Array:
        """All rows."""
        self._flush()
        if len(self._pieces) == 1 and not self._pieces[0].null_count:
            return self._pieces[0]
        return pc.binary_join_element_wise(
            *self._pieces, pa.scalar(b"", pa.binary()), null_handling="replace", null_replacement=_NULL_LENGTH
        )

    def _flush(self) -> None:
        if self._block:
            self._pieces.append(byte_rows(self._matrix(self._block)))
            self._block = []

    def _matrix(self, parts: Sequence[NDArray[np.uint8] | bytes]) -> NDArray[np.uint8]:
        if len(parts) == 1 and not isinstance(parts[0], bytes):
            return parts[0]
        widths = [len(part) if isinstance(part, bytes) else part.shape[1] for part in parts]
        out = np.empty((self._n, sum(widths)), np.uint8)
        at = 0
        for part, width in zip(parts, widths, strict=True):
            out[:, at : at + width] = np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part
            at += width
        return out


def _empty_nulls(values: pa.Array, lengths: NDArray[np.int32]) -> pa.Array:
    """The same bytes without nulls: a null has none."""
    if not values.null_count:
        return values
    if lengths[np.asarray(values.is_null())].any():
        return values.fill_null(b"")
    buffers = values.buffers()
    return pa.Array.from_buffers(values.type, len(values), [None, *buffers[1:]], offset=values.offset)


def payload(rows: pa.Array) -> memoryview:
    """The bytes of an encoded array, or of a slice of one, without a copy."""
    offsets = offsets_of(rows)
    return memoryview(rows.buffers()[2])[int(offsets[0]) : int(offsets[-1])]
