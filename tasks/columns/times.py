"""Parse times: ISO 8601 with any offset, or seconds, milliseconds or microseconds since 1970. And format them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Context, Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.epoch import to_micros

# The size of a number decides its unit: seconds below 1e11 (the year 5138), milliseconds below 1e14, else microseconds.
_SECONDS_BELOW, _MILLISECONDS_BELOW = 10**11, 10**14
_CUT = Context(rounding=ROUND_DOWN)  # the default context rounds at the 28th digit
_FEW = 32  # texts: fewer are parsed one by one
_INTEGER = r"^-?[0-9]{1,18}(?:\.0*)?$"  # what Arrow can cast once the fraction is removed
_FRACTION_OF_ZEROS = r"\.0*$"
_BEYOND = "<"  # the first character of what Arrow writes for a time that it cannot format
_THOUSANDTHS_OF_ZERO = r"\.?(?:000)+$"
# Decimal alone accepts 1_000 and the digits of other alphabets, and never returns for an exponent of a million.
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")


def parse_times(texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Parse each text. Returns int64, n, microseconds since 1970, and bool, n, whether it is a time. Others are 0.

    `texts`: string, n, no nulls. A time without an offset is UTC. Digits after the microsecond are dropped.
    """
    try:
        return _cast(texts), np.ones(len(texts), bool)
    except pa.ArrowInvalid:
        pass
    out = np.zeros(len(texts), np.int64)
    good = np.ones(len(texts), bool)
    number = np.asarray(pc.match_substring_regex(texts, _INTEGER))
    if number.any():
        whole = pc.replace_substring_regex(texts.filter(pa.array(number)), _FRACTION_OF_ZEROS, "")
        out[number] = from_numbers(np.asarray(pc.cast(whole, pa.int64())))
    out[~number], good[~number] = _from_texts(texts.filter(pa.array(~number)))
    return out, good


def format_times(times: pa.Array) -> pa.Array:
    """The canonical text of each time: ISO 8601 in UTC, with as few of 0, 3 or 6 fractional digits as it needs.

    `times`: UTC timestamps of any unit, n, with or without a zone. Nanoseconds are dropped. Returns string, n, with the
    same nulls: `2024-01-02T03:04:05Z`, `2024-01-02T03:04:05.120Z`.
    """
    unit = times.type.unit
    numbers = times.cast(pa.timestamp(unit)).view(pa.int64())
    if unit == "ns":  # rounds towards the past, as dropping digits does
        micros = np.asarray(numbers.fill_null(0)) // 1000
        numbers, unit = pa.array(micros, mask=np.asarray(times.is_null())), "us"
    texts = fill_far_years(numbers, numbers.view(pa.timestamp(unit)).cast(pa.string()), unit)
    texts = pc.replace_substring(texts, " ", "T", max_replacements=1)
    return pc.binary_join_element_wise(trim_zeros(texts) if unit != "s" else texts, "Z", "")


def fill_far_years(numbers: pa.Array, texts: pa.Array, unit: str) -> pa.Array:
    """Replace the texts that Arrow could not format. It knows no years beyond ±32,767.

    `texts`: string, n, as Arrow formats `numbers`: int64, n, in `unit` (D, s, ms, us) since 1970. The smallest int64
    has no time and becomes `NaT`.
    """
    odd = pc.starts_with(texts, _BEYOND).fill_null(False)
    if not pc.any(odd).as_py():
        return texts
    moments = np.asarray(numbers.filter(odd)).astype(f"datetime64[{unit}]")
    return pc.replace_with_mask(texts, odd, pa.array(np.datetime_as_string(moments), pa.string()))


def trim_zeros(texts: pa.Array) -> pa.Array:
    """Drop trailing zeros of the fraction, three digits at a time."""
    return pc.replace_substring_regex(texts, _THOUSANDTHS_OF_ZERO, "")


def _from_texts(texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Parse in halves until the texts that Arrow rejects are nearly alone, so that a few do not slow down the rest."""
    n = len(texts)
    try:
        return _cast(texts), np.ones(n, bool)
    except pa.ArrowInvalid:
        pass
    if n > _FEW:
        halves = [_from_texts(texts[: n // 2]), _from_texts(texts[n // 2 :])]
        return np.concatenate([half[0] for half in halves]), np.concatenate([half[1] for half in halves])
    parsed = [_parse_one(text) for text in texts.to_pylist()]
    return np.array([micros or 0 for micros in parsed], np.int64), np.array([micros is not None for micros in parsed])


def _cast(texts: pa.Array) -> NDArray[np.int64]:
    try:
        times = pc.cast(texts, pa.timestamp("us", tz="UTC"))
    except pa.ArrowInvalid:
        times = pc.cast(texts, pa.timestamp("us"))  # if no text has an offset
    return np.asarray(times.view(pa.int64()), np.int64)


def from_numbers(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Microseconds since 1970 of numbers whose size decides their unit: int64, n, below 10**18."""
    size = np.abs(numbers)
    scale = np.where(size < _SECONDS_BELOW, 1_000_000, np.where(size < _MILLISECONDS_BELOW, 1_000, 1))
    return np.asarray(numbers * scale, np.int64)


def _parse_one(text: str) -> int | None:
    """Microseconds since 1970. None if `text` is not a time."""
    text = text.strip()
    if NUMBER.fullmatch(text):
        return _from_decimal(Decimal(text))
    if "\0" in text:  # `fromisoformat` takes one at the end of an offset
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return to_micros(moment)
    except (ValueError, OverflowError):
        return None


def _from_decimal(number: Decimal) -> int | None:
    size = number.copy_abs()
    if size >= 10**18:
        return None
    scale = 1_000_000 if size < _SECONDS_BELOW else 1_000 if size < _MILLISECONDS_BELOW else 1
    return int(_CUT.multiply(number, Decimal(scale)))
