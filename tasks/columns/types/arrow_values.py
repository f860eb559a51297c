"""Arrow arrays of texts, and of values that are typed already, in the few shapes that the types take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.columns.wire import data_of


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
