"""Read texts as points in time: ISO 8601, numbers since 1970, or a format of strptime."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.epoch import to_micros
from infra.mapping.column_source import ColumnSource
from tasks.columns.epoch_numbers import NUMBER, parse_epoch_numbers, scale_integers
from tasks.columns.times import parse_times
from tasks.columns.types.arrow_values import as_string
from tasks.columns.types.time_formats import parse_format

# The first microsecond of PostgreSQL's timestamps, 4714-11-24 BC.
_EARLIEST = -210_866_803_200_000_000
_AFTER_YEAR_0 = to_micros(datetime(1, 1, 2, tzinfo=UTC))  # with any offset
_CLOCK = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}(?::[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)?)?$"
_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]{5,18}(?:Z|[+-][0-9]{2}:?[0-9]{2})$"
_ENDS = {"infinity": 1, "-infinity": -1}


@dataclass(frozen=True)
class Moments:
    """n points in time. `micros`: int64, n, microseconds since 1970 in UTC, or of the wall clock if `local`: bool, n.
    Both are unspecified for what is `bad`, infinite or absent.

    `absent`: bool, n, for nulls; None if there are none. `bad`: bool, n, what is not a time. `infinite`: int8, n, 1 or
    -1 for infinity or -infinity, which are not bad; None if there are none.
    """

    micros: NDArray[np.int64]
    local: NDArray[np.bool_]
    absent: NDArray[np.bool_] | None
    bad: NDArray[np.bool_]
    infinite: NDArray[np.int8] | None = None


def read_moments(values: pa.Array, source: ColumnSource) -> Moments:
    """Read texts (string or binary, n, with nulls) or numbers as `source` says. Nothing fails: others are bad."""
    values = values if pa.types.is_integer(values.type) else as_string(values)
    if not values.null_count:
        return _read_present(values, source)
    valid = np.asarray(values.is_valid())
    found = _read_present(values.drop_null(), source)
    n = len(values)
    micros, local, bad = np.zeros(n, np.int64), np.zeros(n, bool), np.zeros(n, bool)
    micros[valid], local[valid], bad[valid] = found.micros, found.local, found.bad
    infinite = None
    if found.infinite is not None:
        infinite = np.zeros(n, np.int8)
        infinite[valid] = found.infinite
    return Moments(micros, local, ~valid, bad, infinite)


def _read_present(values: pa.Array, source: ColumnSource) -> Moments:
    n = len(values)
    local = np.zeros(n, bool)
    if pa.types.is_integer(values.type):
        if source.format is not None:
            return _read_present(as_string(values), source)
        micros, good = scale_integers(np.asarray(values.cast(pa.int64())), source.unit)
    elif source.unit is not None:
        micros, good = parse_epoch_numbers(values, source.unit)
    elif source.format is not None:
        micros, good, local = parse_format(values, source.format)
    elif source.timezone is not None:
        micros, good, local = _from_clocks(values)
    else:
        micros, good = parse_times(values)
    if n and micros.min() < _AFTER_YEAR_0:
        good = good & (micros >= _EARLIEST)
        if not pa.types.is_integer(values.type):  # year 0 is 1 BC for some readers, and an error for others
            good &= ~np.asarray(pc.match_substring_regex(values, r"^\s*0000"))
    bad = ~good
    if not bad.any() or pa.types.is_integer(values.type):
        return Moments(micros, local, None, bad)
    infinite = np.zeros(n, np.int8)
    for row in map(int, np.flatnonzero(bad)):
        infinite[row] = _ENDS.get(values[row].as_py().strip().lower(), 0)
    bad &= infinite == 0
    return Moments(micros, local, None, bad, infinite if infinite.any() else None)


def _from_clocks(texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Times, good, and local: no offset is known."""
    micros, good = parse_times(texts)
    local = np.asarray(pc.match_substring_regex(texts, _CLOCK))
    known = local | np.asarray(pc.match_substring_regex(texts, _MOMENT))
    if not known.all():
        local = local.copy()
        for row in map(int, np.flatnonzero(~known)):
            local[row] = _has_no_offset(texts[row].as_py())
    return micros, good, local


def _has_no_offset(text: str) -> bool:
    """Whether a text is ISO 8601 without an offset."""
    if NUMBER.fullmatch(text.strip()):
        return False
    try:
        return datetime.fromisoformat(text.strip()).tzinfo is None
    except ValueError:  # no time, or one that only Arrow can read
        return False
