"""Columns side by side as the rows of a binary COPY, each value with its length."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.columns.wire import big_endian, byte_rows, offsets_of, validity

_NULL_LENGTH = struct.pack("!i", -1)


class RowPieces:
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

    def column(self, encoded: NDArray[np.uint8] | pa.Array, prefix: bytes, values: pa.Array) -> None:
        """The values of a column as its type encodes them (see `ColumnType.encode`), with the nulls of `values`."""
        if isinstance(encoded, np.ndarray):
            self._fixed(encoded, prefix, validity(values))
        else:
            self._varying(encoded, prefix, values)

    def _fixed(self, table: NDArray[np.uint8], prefix: bytes, mask: pa.Buffer | None) -> None:
        length = struct.pack("!i", len(prefix) + table.shape[1]) + prefix
        if mask is None:
            self.constant(length)
            self._block.append(table)
            return
        self._flush()
        self._pieces.append(byte_rows(self._matrix([length, table]), mask))  # a null becomes the length of null

    def _varying(self, encoded: pa.Array, prefix: bytes, values: pa.Array) -> None:
        lengths = np.diff(offsets_of(encoded))
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
        self._pieces.append(_empty_nulls(encoded, lengths, values))

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


def _empty_nulls(encoded: pa.Array, lengths: NDArray[np.int32], values: pa.Array) -> pa.Array:
    """The same bytes without nulls, and no bytes for a null of `values`."""
    if values.null_count and lengths[np.asarray(values.is_null())].any():
        encoded = pc.if_else(values.is_valid(), encoded, pa.scalar(b"", pa.binary()))
    if not encoded.null_count:
        return encoded
    buffers = encoded.buffers()
    return pa.Array.from_buffers(encoded.type, len(encoded), [None, *buffers[1:]], offset=encoded.offset)
