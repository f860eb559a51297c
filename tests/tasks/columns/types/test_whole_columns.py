"""Times with a zone or a format are read a column at a time: the way that reads one by one is left for the rest."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from infra.epoch import to_micros
from tasks.columns.types.time_formats import _fixed_format, _parse_fixed
from tasks.columns.types.zones import _shifted

HOUR = 3_600_000_000


def test_the_shift_of_an_hour_is_that_of_its_first_and_its_last_microsecond() -> None:
    asked: list[int] = []

    def shift(number: int) -> int:
        asked.append(number)
        return number + 5

    numbers = np.array([7 * HOUR + 3, -2 * HOUR, 7 * HOUR, 8 * HOUR - 1, -HOUR - 1], np.int64)
    out, good = _shifted(numbers, shift)
    assert out.tolist() == (numbers + 5).tolist()
    assert good.tolist() == [True] * 5
    assert sorted(asked) == [-2 * HOUR, -HOUR - 1, 7 * HOUR, 8 * HOUR - 1]


def test_in_an_hour_with_two_shifts_each_time_has_its_own() -> None:
    middle = 3 * HOUR + 100

    def shift(number: int) -> int:
        if number == middle + 1:
            raise OverflowError
        return number + (11 if number < middle else -7)

    numbers = np.array([3 * HOUR, middle - 1, middle, middle + 1, 4 * HOUR - 1, 4 * HOUR], np.int64)
    out, good = _shifted(numbers, shift)
    assert good.tolist() == [True, True, True, False, True, True]
    assert out[good].tolist() == [3 * HOUR + 11, middle + 10, middle - 7, 4 * HOUR - 8, 4 * HOUR - 7]


def test_an_hour_that_begins_or_ends_outside_of_all_times_is_read_one_by_one() -> None:
    def shift(number: int) -> int:
        if not HOUR + 10 <= number < 2 * HOUR + 10:
            raise OverflowError
        return number - 3

    numbers = np.array([HOUR + 9, HOUR + 10, 2 * HOUR + 9, 2 * HOUR + 10, 3 * HOUR], np.int64)
    out, good = _shifted(numbers, shift)
    assert good.tolist() == [False, True, True, False, False]
    assert out[good].tolist() == [HOUR + 7, 2 * HOUR + 6]


def read(form: str, texts: list[str]) -> list[int | None]:
    """The texts of a format that are read as a column; None for those that are left."""
    fixed = _fixed_format(form)
    assert fixed is not None
    micros, good = np.full(len(texts), -99, np.int64), np.zeros(len(texts), bool)
    _parse_fixed(pa.array(texts), fixed, micros, good)
    return [int(number) if is_good else None for number, is_good in zip(micros, good, strict=True)]


def at(*parts: int) -> int:
    return to_micros(datetime(*parts, tzinfo=UTC))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("form", "texts", "expected"),
    [
        (
            "%d/%m/%Y %H:%M:%S.%f",
            ["31/12/2024 23:59:58.123456", "1/2/2024 03:04:05.000000", "29/02/2024 00:00:00.000001", "x"],
            [at(2024, 12, 31, 23, 59, 58, 123456), None, at(2024, 2, 29, 0, 0, 0, 1), None],
        ),
        (
            "%Y%m%d",
            ["20240229", "20230229", "00010101", "00000101", "2024022:", "2024022/", "99991231"],
            [at(2024, 2, 29), None, at(1, 1, 1), None, None, None, at(9999, 12, 31)],
        ),
        ("%H:%M", ["13:05", "13.05", "1305x", "24:00", "09:90"], [at(1900, 1, 1, 13, 5), None, None, None, None]),
        ("100%% %Y-%m", ["100% 2024-07", "1009 2024-07"], [at(2024, 7, 1), None]),
        ("%Y%Y", ["20232024"], [at(2024, 1, 1)]),
        ("%S", ["59"], [at(1900, 1, 1, 0, 0, 59)]),
        (
            "%f",
            ["123456", "12345Z", "123+05"],
            [at(1900, 1, 1, 0, 0, 0, 123456), None, None],
        ),  # ISO 8601 with an offset
        ("%Y%m%d", ["00000101"], [None]),  # Arrow, unlike Python, has a year 0
    ],
)
def test_texts_with_every_digit_in_its_place_are_read_as_a_column(
    form: str, texts: list[str], expected: list[int | None]
) -> None:
    assert read(form, texts) == expected


def test_a_format_with_a_name_or_an_offset_has_no_fixed_places() -> None:
    for form in ("%d %b %Y", "%Y %z", "%y", "%I:%M %p", "%Y%!"):
        assert _fixed_format(form) is None
    fixed = _fixed_format("%Y/%%")
    assert fixed is not None
    assert (bytes(fixed.literal), fixed.digits.tolist(), fixed.places) == (
        b"0000/%",
        [True] * 4 + [False] * 2,
        ((0, 0, 4),),
    )
