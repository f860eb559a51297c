"""The type numeric. Its binary form has digits to the base 10,000.

https://github.com/postgres/postgres/blob/REL_17_STABLE/src/backend/utils/adt/numeric.c (numeric_recv)
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.mapping.column_source import ColumnSource
from tasks.columns.types.arrow_values import all_match, as_binary, as_string
from tasks.columns.types.column_type import ColumnType, Parsed
from tasks.columns.wire import big_endian, offsets_of

# At most 18 characters, so that they fit in an int64, and at most 16 of them after the point, so that these still do
# when they are filled up to a multiple of four.
_UNDERSTOOD = r"^-?[0-9]+(?:\.[0-9]{1,16})?$"
_MOST_DIGITS = 18
_GROUP = 10_000  # the base of the digits
_DIGITS_PER_GROUP = 4
_HEAD = 8  # bytes before the digits: their number, the weight of the first, the sign, the scale
_NEGATIVE = 0x4000
_POWERS = 10 ** np.arange(_MOST_DIGITS + 1, dtype=np.int64)


class Numeric(ColumnType):
    """An exact number. Its values are canonical texts; it understands decimal numbers of at most 18 digits.

    Not exact: 1.0 equals 1.00.
    """

    def parse(self, texts: pa.Array, source: ColumnSource) -> Parsed:
        """The texts, if each has few digits and no exponent."""
        strings = as_string(texts)
        if np.diff(offsets_of(strings)).max(initial=0) > _MOST_DIGITS or not all_match(strings, _UNDERSTOOD):
            return Parsed(strings)
        return Parsed(as_binary(strings))

    def encode(self, values: pa.Array) -> NDArray[np.uint8]:
        """All values with as many groups of four digits as the longest needs: the server drops leading and trailing
        zeros."""
        texts = values.fill_null(b"0") if values.null_count else values
        point = np.asarray(pc.find_substring(texts, b"."))
        scale = np.where(point < 0, 0, np.diff(offsets_of(texts)) - point - 1).astype(np.int64)
        if scale.any():
            texts = pc.replace_substring(texts, b".", b"", max_replacements=1)
        unscaled = np.asarray(texts.cast(pa.string(), safe=False).cast(pa.int64()))
        size = np.abs(unscaled)
        whole, fraction = np.divmod(size, _POWERS[scale])
        fraction_groups = -(-int(scale.max(initial=0)) // _DIGITS_PER_GROUP)
        fraction = fraction * _POWERS[fraction_groups * _DIGITS_PER_GROUP - scale]
        whole_groups = -(-len(str(int(whole.max(initial=0)))) // _DIGITS_PER_GROUP)
        out = np.empty((len(values), _HEAD + 2 * (whole_groups + fraction_groups)), np.uint8)
        out[:, 0:4] = np.array([whole_groups + fraction_groups, whole_groups - 1], ">i2").view(np.uint8)
        out[:, 4:6] = big_endian(np.where(unscaled < 0, _NEGATIVE, 0), ">i2")
        out[:, 6:8] = big_endian(scale, ">i2")
        _write_groups(out[:, _HEAD : _HEAD + 2 * whole_groups], whole)
        _write_groups(out[:, _HEAD + 2 * whole_groups :], fraction)
        return out

    def to_text(self, values: pa.Array) -> pa.Array:
        """The texts themselves."""
        return values


def _write_groups(out: NDArray[np.uint8], numbers: NDArray[np.int64]) -> None:
    """Write numbers as digits to the base 10,000, big-endian, the last digit at the end."""
    for at in range(out.shape[1] - 2, -1, -2):
        numbers, digits = np.divmod(numbers, _GROUP)
        out[:, at : at + 2] = big_endian(digits, ">i2")


NUMERIC = Numeric(pa.binary(), "a number")
