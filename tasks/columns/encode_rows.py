"""Encode rows of any table for a COPY, one column at a time.

Format: https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4 (all integers big-endian)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tasks.columns.row_pieces import RowPieces
from tasks.columns.types.column_type import ColumnType
from tasks.columns.wire import data_of, offsets_of

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
TRAILER = struct.pack("!h", -1)
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
    pieces = RowPieces(rows.num_rows)
    pieces.constant(struct.pack("!h", rows.num_columns))
    for kind, values in zip(types, rows.columns, strict=True):
        pieces.column(kind.encode(values), kind.prefix, values)
    return pieces.join()


def payload(rows: pa.Array) -> memoryview:
    """The bytes of an encoded array, or of a slice of one, without a copy."""
    offsets = offsets_of(rows)
    return memoryview(rows.buffers()[2])[int(offsets[0]) : int(offsets[-1])]
