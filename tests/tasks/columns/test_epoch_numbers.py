"""Numbers since 1970 as columns, compared with exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.columns.epoch_numbers import parse_epoch_numbers

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


@settings(deadline=None, max_examples=300)
@given(st.lists(NUMBERS, max_size=8), st.sampled_from([None, *PER_UNIT]))
def test_a_number_is_read_exactly_and_cut_at_the_microsecond(texts: list[str], unit: str | None) -> None:
    micros, good = parse_epoch_numbers(pa.array(texts, pa.string()), unit)
    found = [int(value) if ok else None for value, ok in zip(micros, good, strict=True)]
    assert found == [exact(text.replace(".e", "e").replace(".E", "E"), unit) for text in texts]


@settings(deadline=None, max_examples=100)
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
