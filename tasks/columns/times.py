"""Parse times: ISO 8601 with any offset, or seconds, milliseconds or microseconds since 1970. And format them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.epoch import to_micros
from tasks.columns.epoch_numbers import NUMBER, parse_epoch_number, parse_epoch_numbers

_FEW = 32  # texts: fewer are parsed one by one
_BEYOND = "<"  # the first character of what Arrow writes for a time that it cannot format
_NUMBER = r"^-?[0-9]{1,18}(?:\.[0-9]*)?$"  # what is parsed as a column; `NUMBER` is the rest
_THOUSANDTHS_OF_ZERO = r"\.?(?:000)+$"


def parse_times(texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Parse each text. Returns int64, n, microseconds since 1970, and bool, n, whether it is a time. Others are 0.

    `texts`: string, n, no nulls. A time without an offset is UTC. Digits after the microsecond are dropped.
    """
    if not len(texts) or not NUMBER.fullmatch(texts[0].as_py()):
        try:
            return _cast(texts), np.ones(len(texts), bool)
        except pa.ArrowInvalid:
            pass
    number = np.asarray(pc.match_substring_regex(texts, _NUMBER))
    if number.all():
        return parse_epoch_numbers(texts, None)
    out, good = np.zeros(len(texts), np.int64), np.ones(len(texts), bool)
    out[number], good[number] = parse_epoch_numbers(texts.filter(pa.array(number)), None)
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
    """Microseconds since 1970, int64, n. Raises `ArrowInvalid` unless all texts have an offset, or all have none."""
    kind = pa.timestamp("us", tz="UTC")
    try:
        pc.cast(texts[:1], kind)
    except pa.ArrowInvalid:  # a cast that fails takes 30 times as long, so the first text decides
        kind = pa.timestamp("us")
    return np.asarray(pc.cast(texts, kind).view(pa.int64()), np.int64)


def _parse_one(text: str) -> int | None:
    """Microseconds since 1970. None if `text` is not a time."""
    text = text.strip()
    if NUMBER.fullmatch(text):
        return parse_epoch_number(text, None)
    if "\0" in text:  # `fromisoformat` takes one at the end of an offset
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return to_micros(moment)
    except (ValueError, OverflowError):
        return None
