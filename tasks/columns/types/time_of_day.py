"""The type time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.mapping.column_source import ColumnSource
from tasks.columns.types.arrow_values import all_match, as_string, numbers_of
from tasks.columns.types.column_type import ColumnType, Parsed
from tasks.columns.wire import big_endian

_CANONICAL = r"^[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?$"


class TimeOfDay(ColumnType):
    """A time without a date: microseconds since midnight. It understands `12:34`, `12:34:56` and `12:34:56.789012`."""

    def parse(self, texts: pa.Array, source: ColumnSource) -> Parsed:
        """The times, if all texts are canonical."""
        strings = as_string(texts)
        if not all_match(strings, _CANONICAL):
            return Parsed(strings)
        try:
            times = pc.binary_join_element_wise(pa.scalar("1970-01-01"), strings, " ").cast(pa.timestamp("us"))
        except pa.ArrowInvalid:  # 24:00 or 23:59:60, or no time
            return Parsed(strings)
        return Parsed(times.view(pa.int64()).view(self.arrow))

    def encode(self, values: pa.Array) -> NDArray[np.uint8]:
        """Big-endian."""
        return big_endian(numbers_of(values), ">i8")

    def to_text(self, values: pa.Array) -> pa.Array:
        """`12:34:56.000000`."""
        return values.cast(pa.string())


TIME = TimeOfDay(pa.time64("us"), "a time of day, such as 12:34:56", 8, exact=True)
