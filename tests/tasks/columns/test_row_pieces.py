"""Parts of rows side by side, against rows that are put together one by one."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest

from tasks.columns.row_pieces import RowPieces

WIDE = np.arange(10, dtype=np.uint8).reshape(2, 5)
NO_NULLS = pa.array([0, 0])


def sized(value: bytes) -> bytes:
    return struct.pack("!i", len(value)) + value


def test_bytes_that_every_row_has_stay_where_they_were_added() -> None:
    pieces = RowPieces(2)
    pieces.constant(b"a")
    pieces.constant(b"b")
    pieces.column(WIDE, b"", NO_NULLS)
    pieces.constant(b"c")
    pieces.constant(b"d")
    assert pieces.join().to_pylist() == [b"ab" + sized(row.tobytes()) + b"cd" for row in WIDE]


@pytest.mark.parametrize("prefix", [b"", b"x", b"pre"])
@pytest.mark.parametrize("values", [[b"", b"1"], [b"12", b"345"], [b"123", b"1234567"]])
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_the_length_of_a_value_is_that_of_its_prefix_and_its_bytes(
    prefix: bytes, values: list[bytes], columns: int
) -> None:
    pieces = RowPieces(2)
    for _ in range(columns):
        pieces.column(pa.array(values, pa.binary()), prefix, NO_NULLS)
    assert pieces.join().to_pylist() == [sized(prefix + value) * columns for value in values]
    pieces = RowPieces(2)
    for _ in range(columns):
        pieces.column(WIDE, prefix, NO_NULLS)
    assert pieces.join().to_pylist() == [sized(prefix + row.tobytes()) * columns for row in WIDE]


@pytest.mark.parametrize("prefix", [b"", b"pre"])
@pytest.mark.parametrize("columns", [1, 2])
def test_a_null_is_only_the_length_minus_one(prefix: bytes, columns: int) -> None:
    null = struct.pack("!i", -1)
    for encoded in (pa.array([b"left over", b"12345"], pa.binary()), pa.array([None, b"12345"], pa.binary())):
        pieces = RowPieces(2)
        for _ in range(columns):
            pieces.column(encoded, prefix, pa.array([None, 1]))
        assert pieces.join().to_pylist() == [null * columns, sized(prefix + b"12345") * columns]
    pieces = RowPieces(2)
    for _ in range(columns):
        pieces.column(WIDE, prefix, pa.array([None, 1]))
    assert pieces.join().to_pylist() == [null * columns, sized(prefix + WIDE[1].tobytes()) * columns]
