"""The types float4 and float8."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.mapping.column_source import ColumnSource
from tasks.columns.types.arrow_values import all_match, as_string, is_text, numbers_of
from tasks.columns.types.column_type import ColumnType, Parsed
from tasks.columns.wire import big_endian

_SPECIAL = r"^(?i:nan|[+-]?inf(?:inity)?)$"
_ZERO = r"^[+-]?[0.]+(?:[eE].*)?$"
# The bits of a double that a float drops, and their value halfway between two floats.
_DROPPED, _HALFWAY = np.uint64(0x1FFF_FFFF), np.uint64(0x1000_0000)
_SMALLEST_NORMAL, _LARGEST = float(np.finfo(np.float32).smallest_normal), float(np.finfo(np.float32).max)


class Float(ColumnType):
    """A floating-point number of `width` bytes. It understands decimal numbers in its range, NaN and infinity.

    Not exact: the server considers 0 and -0 equal, and NaN equal to itself.
    """

    def parse(self, texts: pa.Array, source: ColumnSource) -> Parsed:
        """The nearest numbers. The server refuses a number that would become infinite or 0, so it decides on those."""
        if not is_text(texts):
            return Parsed(self._from_numbers(texts))
        texts = as_string(texts)
        try:
            values = texts.cast(self.arrow)  # rounded once and correctly, as strtof and strtod do
        except pa.ArrowInvalid:
            return Parsed(texts)
        numbers = numbers_of(values)
        finite = np.isfinite(numbers)
        if not finite.all() and not all_match(texts.filter(pa.array(~finite)), _SPECIAL):
            return Parsed(texts)
        if not numbers.all() and not all_match(texts.filter(pa.array(numbers == 0)), _ZERO):
            return Parsed(texts)
        return Parsed(values)

    def _from_numbers(self, values: pa.Array) -> pa.Array:
        """Numbers as their texts would be read, if that takes no text: rounded once."""
        if values.type == self.arrow or (values.type == pa.float64() and _round_like_their_texts(values)):
            numbers = numbers_of(values)
            return _with_nulls(np.where(np.isnan(numbers), np.nan, numbers).astype(f"f{self.width}"), values)
        if pa.types.is_integer(values.type):
            return _with_nulls(np.asarray(values.fill_null(0)).astype(f"f{self.width}"), values)
        return self.parse(as_string(values), ColumnSource()).values

    def encode(self, values: pa.Array) -> NDArray[np.uint8]:
        """IEEE 754, big-endian."""
        return big_endian(numbers_of(values), f">f{self.width}")

    def to_text(self, values: pa.Array) -> pa.Array:
        """The shortest digits that give the same number."""
        return values.cast(pa.string())


def _round_like_their_texts(values: pa.Array) -> bool:
    """Whether each double gives the float that its shortest digits give. Halfway between two floats it may not."""
    doubles = numbers_of(values)
    size = np.abs(doubles)
    usual = (size >= _SMALLEST_NORMAL) & (size < _LARGEST) | (size == 0) | ~np.isfinite(size)
    halfway = (doubles.view(np.uint64) & _DROPPED) == _HALFWAY
    return not (halfway | ~usual)[np.asarray(values.is_valid())].any()


def _with_nulls(numbers: NDArray[np.floating], values: pa.Array) -> pa.Array:
    return pa.array(numbers, mask=np.asarray(values.is_null()) if values.null_count else None)


FLOAT4 = Float(pa.float32(), "a number of float4 (real)", 4)
FLOAT8 = Float(pa.float64(), "a number of float8 (double precision)", 8)
