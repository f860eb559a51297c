"""Columns as the bytes of a binary COPY: big-endian integers, lengths, and byte matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def big_endian(numbers: NDArray[Any], kind: str) -> NDArray[np.uint8]:
    """The bytes of numbers as the type `kind`, such as `>i4`: uint8, (n, width)."""
    swapped = numbers.astype(kind)
    return swapped.view(np.uint8).reshape(len(numbers), swapped.itemsize)


def byte_rows(table: NDArray[np.uint8], mask: pa.Buffer | None = None) -> pa.Array:
    """The rows of a byte matrix, shape (n, width), as a binary array, n, that shares its memory.

    `mask`: a validity bitmap without an offset, for rows that are null.
    """
    n, width = table.shape
    offsets = np.arange(0, (n + 1) * width, width, dtype=np.int32)
    data = pa.py_buffer(np.ascontiguousarray(table))
    return pa.Array.from_buffers(pa.binary(), n, [mask, pa.py_buffer(offsets), data])


def offsets_of(texts: pa.Array) -> NDArray[np.int32]:
    """The n + 1 offsets into the data of a string or binary array, n. They begin at its own offset."""
    buffer = texts.buffers()[1]
    if buffer is None or not len(texts):
        return np.zeros(len(texts) + 1, np.int32)
    return np.frombuffer(buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1]


def data_of(texts: pa.Array) -> NDArray[np.uint8]:
    """All bytes of a string or binary array, one value after another, without a copy."""
    data = texts.buffers()[2]
    if data is None or not len(texts):
        return np.zeros(0, np.uint8)
    offsets = offsets_of(texts)
    return np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]


def validity(values: pa.Array) -> pa.Buffer | None:
    """The validity bitmap of an array, without an offset. None if it has no nulls."""
    if not values.null_count:
        return None
    if not values.offset:
        return values.buffers()[0]
    return values.is_valid().buffers()[1]
