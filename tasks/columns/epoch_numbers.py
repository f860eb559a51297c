"""Numbers of seconds, milliseconds, microseconds or nanoseconds since 1970 as times, one column at a time."""

from __future__ import annotations

import re
from decimal import ROUND_DOWN, Context, Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# A unit as a power of ten of microseconds.
POWERS = {"s": 6, "ms": 3, "us": 0, "ns": -3}
# Without a unit, the size of a number decides: seconds below 1e11 (the year 5138), milliseconds below 1e14, else
# microseconds.
_SECONDS_BELOW, _MILLISECONDS_BELOW = 10**11, 10**14
_LIMIT = 10**18  # microseconds: a larger number is not a time
_DIGITS = 6  # of a fraction that count, at most
_CUT = Context(rounding=ROUND_DOWN)  # the default context rounds at the 28th digit
# Decimal alone accepts 1_000 and the digits of other alphabets, and never returns for an exponent of a million.
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")
_INTEGER = r"^-?[0-9]{1,19}$"
_DECIMAL = r"^-?[0-9]{1,18}\.[0-9]*$"


def parse_epoch_numbers(texts: pa.Array, unit: str | None) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Parse each text. Returns int64, n, microseconds since 1970, and bool, n, whether it is a time. Others are 0.

    `texts`: string, n, no nulls. Digits after the microsecond are dropped. Without a unit, the size decides.
    """
    out, good = np.zeros(len(texts), np.int64), np.zeros(len(texts), bool)
    for pattern, read in ((_INTEGER, _read_integers), (_DECIMAL, _read_decimals)):
        rows = np.flatnonzero(np.asarray(pc.match_substring_regex(texts, pattern)))
        if len(rows):
            some = texts if len(rows) == len(texts) else texts.take(pa.array(rows))
            out[rows], good[rows] = read(some, unit)
        if len(rows) == len(texts):
            return out, good
    rest = np.flatnonzero(~good)
    out[rest], good[rest] = _read_one_by_one(texts.take(pa.array(rest)), unit)
    return out, good


def scale_integers(numbers: NDArray[np.int64], unit: str | None) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Microseconds since 1970, int64, n, of numbers, and whether they are times: bool, n."""
    power = 0 if unit is None else POWERS[unit]
    if power < 0:
        whole, rest = np.divmod(numbers, 10**-power)
        return whole + ((numbers < 0) & (rest != 0)), np.ones(len(numbers), bool)
    limit = _LIMIT // 10**power
    good = (numbers > -limit) & (numbers < limit)
    numbers = np.where(good, numbers, 0)
    return numbers * (_scale(numbers) if unit is None else 10**power), good


def _scale(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Microseconds per unit that the size of each number means."""
    size = np.abs(numbers)
    return np.where(size < _SECONDS_BELOW, 1_000_000, np.where(size < _MILLISECONDS_BELOW, 1_000, 1))


def _read_integers(texts: pa.Array, unit: str | None) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    try:
        return scale_integers(np.asarray(pc.cast(texts, pa.int64())), unit)
    except pa.ArrowInvalid:  # of 19 digits, some numbers are too large
        return _read_one_by_one(texts, unit)


def _read_one_by_one(texts: pa.Array, unit: str | None) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    found = [parse_epoch_number(text.strip(), unit) for text in texts.to_pylist()]
    return np.array([micros or 0 for micros in found], np.int64), np.array([micros is not None for micros in found])


def _read_decimals(texts: pa.Array, unit: str | None) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    whole = np.asarray(pc.cast(pc.replace_substring_regex(texts, r"\..*$", ""), pa.int64()))
    digits = pc.utf8_slice_codeunits(pc.replace_substring_regex(texts, r"^[^.]*\.", ""), 0, _DIGITS)
    millionths = np.asarray(pc.cast(pc.utf8_rpad(digits, _DIGITS, "0"), pa.int64()))
    micros, good = scale_integers(whole, unit)
    scale = _scale(whole) if unit is None else 10 ** max(POWERS[unit], 0)
    fraction = np.where(good, millionths * scale // 1_000_000, 0)
    negative = np.asarray(pc.starts_with(texts, "-"))
    if unit is not None and POWERS[unit] < 0:
        return micros, good
    return micros + np.where(negative, -fraction, fraction), good


def parse_epoch_number(text: str, unit: str | None) -> int | None:
    """Microseconds since 1970 of one number, which may have an exponent. None if `text` is not a time."""
    if not NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    size = number.copy_abs()
    power = POWERS[unit] if unit is not None else 6 if size < _SECONDS_BELOW else 3 if size < _MILLISECONDS_BELOW else 0
    if size >= Decimal(_LIMIT).scaleb(-power if unit is not None else 0):
        return None
    return int(_CUT.scaleb(_CUT.create_decimal(number), power))
