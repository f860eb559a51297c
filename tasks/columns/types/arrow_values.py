"""Arrow arrays of texts, and of values that are typed already, in the few shapes that the types take."""

from __future__ import annotations

import binascii
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.columns.wire import data_of, validity


def is_text(values: pa.Array) -> bool:
    """Whether the values are texts: a string or binary array."""
    return bool(pa.types.is_string(values.type) or pa.types.is_binary(values.type))


def as_string(values: pa.Array) -> pa.Array:
    """The values as texts: string, n, same nulls. Bytes that are not UTF-8 stay: the server refuses
    them."""
    if pa.types.is_binary(values.type):
        return values.cast(pa.string(), safe=False)
    return values if pa.types.is_string(values.type) else values.cast(pa.string())


def as_binary(values: pa.Array) -> pa.Array:
    """The bytes of the texts: binary, n, same nulls."""
    return values if pa.types.is_binary(values.type) else as_string(values).cast(pa.binary())


def all_match(texts: pa.Array, pattern: str) -> bool:
    """Whether all texts match a regular expression. Nulls do."""
    try:
        return bool(pc.all(pc.match_substring_regex(as_string(texts), pattern), min_count=0).as_py())
    except pa.ArrowInvalid:  # not UTF-8
        return False


def as_integers(texts: pa.Array, arrow: pa.DataType) -> pa.Array | None:
    """Decimal digits after an optional minus, as integers of a type. None if any text is something else."""
    data = data_of(texts).tobytes()
    if b"x" in data or b"X" in data:  # Arrow also reads hexadecimal digits, and wraps them
        return None
    try:
        return as_string(texts).cast(arrow)
    except pa.ArrowInvalid:
        return None


def numbers_of(values: pa.Array) -> NDArray[Any]:
    """The memory of a fixed-width array, n. What a null has is unspecified."""
    width = values.type.bit_width // 8
    kind = np.dtype(f"f{width}" if pa.types.is_floating(values.type) else f"i{width}")
    buffer = values.buffers()[1]
    if buffer is None or not len(values):
        return np.zeros(len(values), kind)
    return np.frombuffer(buffer, kind)[values.offset : values.offset + len(values)]


def fixed_bytes(values: pa.Array) -> NDArray[np.uint8]:
    """The bytes of a fixed-size binary array: uint8, (n, width). What a null has is unspecified."""
    n, width = len(values), values.type.byte_width
    data = values.buffers()[1]
    if data is None or not n:
        return np.zeros((n, width), np.uint8)
    return np.frombuffer(data, np.uint8)[values.offset * width : (values.offset + n) * width].reshape(n, width)


def hex_texts(values: pa.Array) -> pa.Array:
    """The bytes of a fixed-size binary array as hexadecimal digits: string, n, same nulls."""
    width = 2 * values.type.byte_width
    digits = binascii.hexlify(fixed_bytes(values).tobytes())
    offsets = np.arange(0, (len(values) + 1) * width, width, dtype=np.int32)
    buffers = [validity(values), pa.py_buffer(offsets), pa.py_buffer(digits)]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)
