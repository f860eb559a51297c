"""Numbers since 1970 as columns, compared with exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.columns.epoch_numbers import parse_epoch_number, parse_epoch_numbers, scale_integers

PER_UNIT = {"s": Fraction(10**6), "ms": Fraction(1000), "us": Fraction(1), "ns": Fraction(1, 1000)}
NUMBERS = st.from_regex(r"-?[0-9]{1,19}(\.[0-9]{0,12})?", fullmatch=True) | st.from_regex(
    r"[+-]?0{0,3}[0-9]{1,20}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,2})?", fullmatch=True
)
OTHERS = st.sampled_from(["", "x", "1_0", "0x10", "٣", ".5", "1,5", "--1", "1e1000000", "nan", "-", "1 2"])


def exact(text: str, unit: str | None) -> int | None:
    """Microseconds, without digits after the microsecond."""
    number = Fraction(text.removesuffix("."))
    size = abs(number)
    if unit is None:
        unit = "s" if size < 10**11 else "ms" if size < 10**14 else "us"
    micros = number * PER_UNIT[unit]
    whole = abs(micros.numerator) // micros.denominator
    limit = 10**18
    return None if abs(micros) >= limit else whole if number >= 0 else -whole


@settings(max_examples=300)
@given(st.lists(NUMBERS, max_size=8), st.sampled_from([None, *PER_UNIT]))
def test_a_number_is_read_exactly_and_cut_at_the_microsecond(texts: list[str], unit: str | None) -> None:
    micros, good = parse_epoch_numbers(pa.array(texts, pa.string()), unit)
    found = [int(value) if ok else None for value, ok in zip(micros, good, strict=True)]
    assert found == [exact(text.replace(".e", "e").replace(".E", "E"), unit) for text in texts]


@settings(max_examples=100)
@given(st.lists(NUMBERS | OTHERS, min_size=1, max_size=8), OTHERS, st.sampled_from([None, *PER_UNIT]))
def test_a_text_that_is_no_number_is_refused_and_changes_no_other(texts: list[str], odd: str, unit: str | None) -> None:
    micros, good = parse_epoch_numbers(pa.array([*texts, odd]), unit)
    assert not good[-1]
    for row, text in enumerate(texts):
        alone, fine = parse_epoch_numbers(pa.array([text]), unit)
        assert (micros[row], good[row]) == (alone[0], fine[0])


@pytest.mark.parametrize("unit", [None, *PER_UNIT])
def test_an_empty_column_has_no_times(unit: str | None) -> None:
    micros, good = parse_epoch_numbers(pa.array([], pa.string()), unit)
    assert (len(micros), len(good)) == (0, 0)


@pytest.mark.parametrize(
    ("number", "unit", "micros"),
    [
        (10**11 - 1, None, (10**11 - 1) * 10**6),
        (10**11, None, 10**14),
        (10**14 - 1, None, 10**17 - 1000),
        (10**14, None, 10**14),
        (10**18 - 1, None, 10**18 - 1),
        (10**18, None, None),
        (10**12 - 1, "s", 10**18 - 10**6),
        (10**12, "s", None),
        (10**15 - 1, "ms", 10**18 - 1000),
        (10**15, "ms", None),
        (10**18 - 1, "us", 10**18 - 1),
        (10**18, "us", None),
        (0, None, 0),
        (1, "ns", 0),
        (999, "ns", 0),
        (1000, "ns", 1),
        (1001, "ns", 1),
        (2**63 - 1, "ns", 9_223_372_036_854_775),
    ],
)
def test_the_size_of_a_number_decides_without_a_unit_and_limits_it_with_one(
    number: int, unit: str | None, micros: int | None
) -> None:
    for sign in (1, -1):
        value = None if micros is None else sign * micros
        assert parse_epoch_number(str(sign * number), unit) == value
        for found, good in (
            scale_integers(np.array([sign * number, 7000]), unit),
            parse_epoch_numbers(pa.array([f"{sign * number}", "7000"]), unit),
            parse_epoch_numbers(pa.array([f"{sign * number}.0", "7000"]), unit),
            parse_epoch_numbers(pa.array([f"{sign * number}.0", "7000.0"]), unit),
            parse_epoch_numbers(pa.array([f"{sign * number}e0", "7000"]), unit),
        ):
            assert (found.dtype, good.dtype) == (np.int64, np.bool_)
            assert good.tolist() == [micros is not None, True]
            assert found[0] == (value or 0)
            assert found[1] == {None: 7 * 10**9, "s": 7 * 10**9, "ms": 7 * 10**6, "us": 7000, "ns": 7}[unit]


@pytest.mark.parametrize(
    ("text", "unit", "micros"),
    [
        ("9999999999999999999", "ns", 9_999_999_999_999_999),  # 19 digits that no int64 holds
        ("-9999999999999999999", "ns", -9_999_999_999_999_999),
        ("9999999999999999999", "s", None),
        ("9999999999999999999", None, None),
        ("1.999999", "s", 1_999_999),
        ("-1.999999", "s", -1_999_999),
        ("1.9999999", None, 1_999_999),
        ("1.999999", "ms", 1_999),
        ("1.999999", "us", 1),
        ("1999.999999", "ns", 1),
    ],
)
def test_every_digit_of_a_long_number_counts(text: str, unit: str | None, micros: int | None) -> None:
    for texts in ([text], [text, "5"]):
        found, good = parse_epoch_numbers(pa.array(texts), unit)
        assert (good[0], found[0]) == (micros is not None, micros or 0)
