"""The types timestamptz, timestamp and date. Spillway judges their texts itself, so each means the same everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.epoch import POSTGRES_EPOCH_US
from infra.mapping.column_source import ColumnSource
from tasks.columns.times import fill_far_years, format_times
from tasks.columns.types.arrow_values import numbers_of
from tasks.columns.types.column_type import ColumnType, Parsed
from tasks.columns.types.moments import Moments, read_moments
from tasks.columns.types.zones import in_zone, wall_clock
from tasks.columns.wire import big_endian

DAY_US = 86_400_000_000
_POSTGRES_EPOCH_DAYS = POSTGRES_EPOCH_US // DAY_US
# Stored for `infinity` and `-infinity`: the largest and the smallest number, which are so in PostgreSQL too.
_ENDS_64 = (np.iinfo(np.int64).min, np.iinfo(np.int64).max)
_ENDS_32 = (np.iinfo(np.int32).min, np.iinfo(np.int32).max)
_BC = r"^(?:-[0-9]+|0000)-"


class Timestamp(ColumnType):
    """A timestamptz, or a timestamp: the wall clock in UTC. Microseconds since 1970; infinity is the largest int64."""

    def parse(self, texts: pa.Array, source: ColumnSource) -> Parsed:
        """The times. `bad` marks every text that is not a time."""
        found = read_moments(texts, source)
        micros, bad = found.micros, found.bad
        if source.timezone is not None and found.local.any():
            micros, bad = _in_part(found, found.local, in_zone(micros, source.timezone))
        return _parsed(self.arrow, found, _ends(micros, found, _ENDS_64), bad, source)

    def encode(self, values: pa.Array) -> NDArray[np.uint8]:
        """Microseconds since 2000, big-endian."""
        micros = numbers_of(values)
        return big_endian(_shifted(micros, POSTGRES_EPOCH_US, _ENDS_64), ">i8")

    def to_text(self, values: pa.Array) -> pa.Array:
        """ISO 8601 in UTC."""
        texts = format_times(values.cast(pa.timestamp("us")))
        return _server_texts(texts, numbers_of(values), values, _ENDS_64)


class Date(ColumnType):
    """A date: days since 1970; infinity is the largest int32."""

    def parse(self, texts: pa.Array, source: ColumnSource) -> Parsed:
        """The dates. `bad` marks every text that is not a date. A time counts in UTC, or in the source's time zone."""
        found = read_moments(texts, source)
        micros, bad = found.micros, found.bad
        if source.timezone is not None and not found.local.all():
            micros, bad = _in_part(found, ~found.local, wall_clock(micros, source.timezone))
        days, rest = np.divmod(micros, DAY_US)
        bad = bad | (rest != 0)
        for exempt in (found.infinite, found.absent):
            if exempt is not None:
                bad &= exempt == 0
        return _parsed(self.arrow, found, _ends(days.astype(np.int32), found, _ENDS_32), bad, source)

    def encode(self, values: pa.Array) -> NDArray[np.uint8]:
        """Days since 2000, big-endian."""
        return big_endian(_shifted(numbers_of(values), _POSTGRES_EPOCH_DAYS, _ENDS_32), ">i4")

    def to_text(self, values: pa.Array) -> pa.Array:
        """ISO 8601."""
        texts = fill_far_years(values.cast(pa.int32()).cast(pa.int64()), values.cast(pa.string()), "D")
        return _server_texts(texts, numbers_of(values), values, _ENDS_32)


def _in_part(
    found: Moments, part: NDArray[np.bool_], other: tuple[NDArray[np.int64], NDArray[np.bool_]]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The times, and which are bad: of a part of the rows, those of `other`, with whether they exist."""
    return np.where(part, other[0], found.micros), found.bad | (part & ~other[1])


def _parsed(
    arrow: pa.DataType, found: Moments, numbers: NDArray[np.signedinteger], bad: NDArray[np.bool_], source: ColumnSource
) -> Parsed:
    values = pa.array(numbers, mask=found.absent).view(arrow)
    expected = None
    if source.format is not None:
        expected = f"a time of the format {source.format}"
    elif source.unit is not None:
        expected = f"a number of {source.unit} since 1970"
    return Parsed(values, bad if bad.any() else None, expected)


def _ends(numbers: NDArray[np.signedinteger], found: Moments, ends: tuple[int, int]) -> NDArray[np.signedinteger]:
    """The numbers, with `ends` for -infinity and infinity."""
    if found.infinite is None:
        return numbers
    infinite = found.infinite
    return np.select([infinite < 0, infinite > 0], [np.full_like(numbers, end) for end in ends], numbers)


def _shifted(numbers: NDArray[np.signedinteger], epoch: int, ends: tuple[int, int]) -> NDArray[np.signedinteger]:
    shifted = numbers - numbers.dtype.type(epoch)
    if len(numbers) and (numbers.max() == ends[1] or numbers.min() == ends[0]):
        return np.where((numbers == ends[0]) | (numbers == ends[1]), numbers, shifted)
    return shifted


def _server_texts(texts: pa.Array, numbers: NDArray[Any], values: pa.Array, ends: tuple[int, int]) -> pa.Array:
    """ISO 8601 as the server reads it: infinity has a name, and a year before 1 an era."""
    odd = np.asarray(pc.match_substring_regex(texts, _BC).fill_null(False))
    if len(numbers):
        odd = odd | ((numbers == ends[0]) | (numbers == ends[1])) & np.asarray(values.is_valid())
    if not odd.any():
        return texts
    replaced = []
    for row in map(int, np.flatnonzero(odd)):
        if numbers[row] in ends:
            replaced.append("infinity" if numbers[row] == ends[1] else "-infinity")
        else:
            year, rest = texts[row].as_py().lstrip("-").split("-", 1)
            before = texts[row].as_py().startswith("-")
            replaced.append(f"{1 + int(year) if before else 1:04}-{rest.replace('T', ' ')} BC")
    return pc.replace_with_mask(texts, pa.array(odd), pa.array(replaced, pa.string()))


_EXPECTED = "ISO 8601 or a number of s, ms or µs since 1970"
TIMESTAMPTZ = Timestamp(pa.timestamp("us", tz="UTC"), _EXPECTED, 8, exact=True)
TIMESTAMP = Timestamp(pa.timestamp("us"), _EXPECTED, 8, exact=True)
DATE = Date(pa.date32(), "an ISO 8601 date, or a time at midnight", 4, exact=True)
