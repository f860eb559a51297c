"""Clocks in a time zone, one column at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from functools import partial
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from infra.epoch import from_micros, to_micros

_HOUR_US = 3_600_000_000


def in_zone(clocks: NDArray[np.int64], zone: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The times, int64, n, at which clocks in a zone show `clocks`: int64, n, microseconds. And whether they exist.

    A clock that is set back shows some times twice; the later one counts. A clock that is set forward skips some times;
    they count as if it had not been set. PostgreSQL does the same. No times exist outside of the years 1 to 9999.
    """
    return _shifted(clocks, partial(_in_zone, zone=ZoneInfo(zone)))


def wall_clock(times: NDArray[np.int64], zone: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """What clocks in a zone show, int64, n, at these times: int64, n, microseconds. And whether they exist."""
    return _shifted(times, partial(_wall_clock, zone=ZoneInfo(zone)))


def _in_zone(clock: int, zone: ZoneInfo) -> int:
    naive = from_micros(clock).replace(tzinfo=None)
    first, second = (naive.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    skipped = first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != naive
    return to_micros(first if skipped else second)


def _wall_clock(time: int, zone: ZoneInfo) -> int:
    return to_micros(from_micros(time).astimezone(zone).replace(tzinfo=UTC))


def _shifted(numbers: NDArray[np.int64], shift: Callable[[int], int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """`shift` of each number, and whether it has one. The shift of an hour is that of its start and its end, if these
    agree."""
    out, good = numbers.copy(), np.zeros(len(numbers), bool)
    hours, of_hour = np.unique(numbers // _HOUR_US, return_inverse=True)
    starts = [_difference(int(hour) * _HOUR_US, shift) for hour in hours]
    ends = [_difference(int(hour + 1) * _HOUR_US - 1, shift) for hour in hours]
    constant = np.array([start is not None and start == end for start, end in zip(starts, ends, strict=True)], bool)
    differences = np.array([start or 0 for start in starts], np.int64)
    out += differences[of_hour]
    good |= constant[of_hour]
    for row in map(int, np.flatnonzero(~good)):
        difference = _difference(int(numbers[row]), shift)
        out[row] = numbers[row] + (difference or 0)
        good[row] = difference is not None
    return out, good


def _difference(number: int, shift: Callable[[int], int]) -> int | None:
    try:
        return shift(number) - number
    except OverflowError:
        return None
