"""Parse times of a format of strptime, one column at a time.

Arrow's own strptime is not used: it accepts February 30th, and crashes the process for some formats.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.epoch import to_micros
from tasks.columns.times import parse_times
from tasks.columns.wire import byte_rows, data_of

# Directive → where its digits are in an ISO 8601 text. strptime also takes fewer digits, but these are usual.
_PLACES = {"Y": (0, 4), "m": (5, 7), "d": (8, 10), "H": (11, 13), "M": (14, 16), "S": (17, 19), "f": (20, 26)}
_ISO = b"1900-01-01 00:00:00.000000"  # what strptime assumes for a directive that is missing
_PIECE = re.compile(r"%(.)|([^%]+)", re.DOTALL)


@dataclass(frozen=True)
class _FixedFormat:
    """A format in which every directive has a fixed place. `literal`: the bytes of a text, with 0 for each digit.

    `digits`: bool, length, where the digits are. `places`: (start in the text, start in ISO 8601, number of digits).
    """

    literal: NDArray[np.uint8]
    digits: NDArray[np.bool_]
    places: tuple[tuple[int, int, int], ...]


def parse_format(texts: pa.Array, form: str) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Parse each text as `datetime.strptime` does.

    Returns int64, n, microseconds since 1970, unspecified for what is not a time; bool, n, whether it is a time; and
    bool, n, whether it has no offset, so that it counts as UTC here. `texts`: string, n, no nulls.
    """
    n = len(texts)
    micros, good, local = np.zeros(n, np.int64), np.zeros(n, bool), np.ones(n, bool)
    fixed = _fixed_format(form)
    if fixed is not None:
        _parse_fixed(texts, fixed, micros, good)
    for row in map(int, np.flatnonzero(~good)):
        try:
            moment = datetime.strptime(texts[row].as_py(), form)
        except (ValueError, OverflowError):
            continue
        local[row] = moment.tzinfo is None
        micros[row] = to_micros(moment.replace(tzinfo=UTC) if local[row] else moment)
        good[row] = True
    return micros, good, local


@lru_cache(maxsize=256)
def _fixed_format(form: str) -> _FixedFormat | None:
    literal, places = bytearray(), []
    for directive, text in _PIECE.findall(form):
        if directive in _PLACES:
            start, stop = _PLACES[directive]
            places.append((len(literal), start, stop - start))
            literal += b"0" * (stop - start)
        elif text or directive == "%":
            literal += (text or "%").encode()
        else:
            return None
    digits = np.zeros(len(literal), bool)
    for at, _, width in places:
        digits[at : at + width] = True
    return _FixedFormat(np.frombuffer(bytes(literal), np.uint8), digits, tuple(places))


def _parse_fixed(texts: pa.Array, fixed: _FixedFormat, micros: NDArray[np.int64], good: NDArray[np.bool_]) -> None:
    """Parse the texts in which every digit is in its place, and mark those that are times."""
    length = len(fixed.literal)
    rows = np.flatnonzero(np.asarray(pc.equal(pc.binary_length(texts), length)))
    if not len(rows) or not length:
        return
    grid = data_of(texts.take(pa.array(rows))).reshape(-1, length)
    is_digit = (grid >= ord("0")) & (grid <= ord("9"))
    fits = np.where(fixed.digits, is_digit, grid == fixed.literal).all(axis=1)
    rows, grid = rows[fits], grid[fits]
    iso = np.tile(np.frombuffer(_ISO, np.uint8), (len(rows), 1))
    for at, start, width in fixed.places:
        iso[:, start : start + width] = grid[:, at : at + width]
    some_year = (iso[:, :4] != ord("0")).any(axis=1)
    found, is_time = parse_times(byte_rows(iso).cast(pa.string()))
    micros[rows] = found
    good[rows] = is_time & some_year
