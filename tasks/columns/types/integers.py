"""The types int2, int4, int8 and bool."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.mapping.column_source import ColumnSource
from tasks.columns.types.arrow_values import as_integers, as_string, is_text, numbers_of
from tasks.columns.types.column_type import ColumnType, Parsed
from tasks.columns.wire import big_endian


class Integer(ColumnType):
    """An integer of `width` bytes. It understands decimal digits after an optional minus."""

    def parse(self, texts: pa.Array, source: ColumnSource) -> Parsed:
        """The integers, if each is in range."""
        if is_text(texts):
            values = as_integers(texts, self.arrow)
            return Parsed(as_string(texts) if values is None else values)
        if not pa.types.is_integer(texts.type):
            return Parsed(as_string(texts))
        try:
            return Parsed(texts.cast(self.arrow))
        except pa.ArrowInvalid:
            return Parsed(as_string(texts))

    def encode(self, values: pa.Array) -> NDArray[np.uint8]:
        """Big-endian."""
        return big_endian(numbers_of(values), f">i{self.width}")

    def to_text(self, values: pa.Array) -> pa.Array:
        """Decimal digits."""
        return values.cast(pa.string())


# The server takes every unique prefix in any case, and blanks around it. These are the usual spellings.
_WORDS = {True: ("true", "t", "yes", "y", "on", "1"), False: ("false", "f", "no", "n", "off", "0")}
_SPELLINGS = {
    spelling: value
    for value, words in _WORDS.items()
    for word in words
    for spelling in (word, word.upper(), word.capitalize())
}


@cache  # at the first use: pyarrow's first array imports pandas, which takes as long as a drain that finds nothing
def _bools() -> tuple[pa.Array, pa.Array]:
    """The spellings and their values."""
    return pa.array(_SPELLINGS, pa.string()), pa.array(_SPELLINGS.values(), pa.bool_())


class Boolean(ColumnType):
    """A boolean. It understands the usual spellings, such as `true`, `F`, `1` and `No`."""

    def parse(self, texts: pa.Array, source: ColumnSource) -> Parsed:
        """The booleans."""
        if pa.types.is_boolean(texts.type):
            return Parsed(texts)
        texts = as_string(texts)
        spellings, values = _bools()
        values = values.take(pc.index_in(texts, spellings))
        return Parsed(values if values.null_count == texts.null_count else texts)

    def encode(self, values: pa.Array) -> NDArray[np.uint8]:
        """1 or 0."""
        return np.asarray(values.cast(pa.uint8()).fill_null(0)).reshape(-1, 1)

    def to_text(self, values: pa.Array) -> pa.Array:
        """`true` or `false`."""
        return values.cast(pa.string())


def _integer(arrow: pa.DataType) -> Integer:
    limit = 2 ** (arrow.bit_width - 1)
    return Integer(arrow, f"an integer from {-limit} to {limit - 1}", arrow.bit_width // 8, exact=True)


INT2, INT4, INT8 = map(_integer, (pa.int16(), pa.int32(), pa.int64()))
BOOL = Boolean(pa.bool_(), "a boolean, such as true or false", 1, exact=True)
