"""The types float4 and float8."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.mapping.column_source import ColumnSource
from tasks.columns.types.arrow_values import all_match, as_string, is_text, numbers_of
from tasks.columns.types.column_type import ColumnType, Parsed
from tasks.columns.wire import big_endian

_SPECIAL = r"^(?i:nan|[+-]?inf(?:inity)?)$"
_ZERO = r"^[+-]?[0.]+(?:[eE].*)?$"
# The bits of a double that a float drops, and their value halfway between two floats.
_DROPPED, _HALFWAY = np.uint64(0x1FFF_FFFF), np.uint64(0x1000_0000)
_SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal


@dataclass(frozen=True)
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
        if values.type == self.arrow or pa.types.is_integer(values.type):
            numbers = numbers_of(values) if values.type == self.arrow else np.asarray(values.fill_null(0))
            return _with_nulls(numbers.astype(f"f{self.width}"), values)
        if values.type == pa.float32():  # float8 reads the shortest digits of a float, not its exact value
            return self.parse(as_string(values), ColumnSource()).values
        if values.type != pa.float64():
            return as_string(values)
        doubles = np.asarray(numbers_of(values), np.float64)
        size = np.abs(doubles)
        normal = (size >= _SMALLEST_NORMAL) & (size < np.finfo(np.float32).max) | (size == 0) | ~np.isfinite(size)
        halfway = (doubles.view(np.uint64) & _DROPPED) == _HALFWAY
        if (halfway | ~normal)[np.asarray(values.is_valid())].any():
            return as_string(values)
        return _with_nulls(doubles.astype(np.float32), values)

    def encode(self, values: pa.Array) -> NDArray[np.uint8]:
        """IEEE 754, big-endian."""
        return big_endian(numbers_of(values), f">f{self.width}")

    def to_text(self, values: pa.Array) -> pa.Array:
        """The shortest digits that give the same number."""
        return values.cast(pa.string())


def _with_nulls(numbers: NDArray[np.floating], values: pa.Array) -> pa.Array:
    absent = np.asarray(values.is_null()) if values.null_count else None
    return pc.if_else(pa.array(absent), None, pa.array(numbers)) if absent is not None else pa.array(numbers)


FLOAT4 = Float(pa.float32(), "a number of float4 (real)", 4)
FLOAT8 = Float(pa.float64(), "a number of float8 (double precision)", 8)
