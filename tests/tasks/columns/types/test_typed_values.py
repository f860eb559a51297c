"""Values that are typed before they are parsed, such as the numbers of a JSON document or of a Parquet file."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.columns.types.arrow_values import all_match, as_string
from tasks.columns.types.column_type import ColumnType
from tasks.columns.types.floats import _round_like_their_texts
from tasks.columns.types.registry import type_of
from tests.support.type_cases import column_of
from tests.support.type_server import SOURCE

NUMBERS = ("smallint", "integer", "bigint", "real", "double precision", "numeric", "boolean", "text")
INT64 = st.integers(-(2**63), 2**63 - 1) | st.integers(-70_000, 70_000) | st.sampled_from([0, 1, 2**53 + 1, 2**24 + 1])


def results(kind: ColumnType, values: pa.Array) -> list[object]:
    """What a column becomes: its bytes in a binary COPY if it is understood, else the texts."""
    parsed = kind.parse(values, SOURCE)
    assert parsed.bad is None
    if parsed.values.type != kind.arrow:
        return list(parsed.values.to_pylist())
    encoded = kind.encode(parsed.values)
    rows = [row.tobytes() for row in encoded] if isinstance(encoded, np.ndarray) else encoded.to_pylist()
    return [row if ok else None for ok, row in zip(parsed.values.is_valid().to_pylist(), rows, strict=True)]


@settings(max_examples=200)
@given(st.sampled_from(NUMBERS), st.lists(INT64 | st.none(), max_size=6))
def test_integers_are_read_like_their_digits(name: str, numbers: list[int | None]) -> None:
    kind = type_of(column_of(name))
    texts = [None if number is None else str(number) for number in numbers]
    assert results(kind, pa.array(numbers, pa.int64())) == results(kind, pa.array(texts, pa.string()))


@settings(max_examples=300)
@given(
    st.sampled_from(["real", "double precision"]),
    st.lists(st.floats() | st.floats(width=32) | st.integers(2**24, 2**26).map(float) | st.none(), max_size=6),
)
def test_doubles_are_read_like_their_shortest_digits(name: str, numbers: list[float | None]) -> None:
    kind = type_of(column_of(name))
    texts = [None if number is None else repr(number) for number in numbers]
    found, expected = (
        results(kind, array) for array in (pa.array(numbers, pa.float64()), pa.array(texts, pa.string()))
    )
    if expected and any(isinstance(value, str) for value in expected):
        assert [value is None for value in found] == [value is None for value in expected]
        assert any(isinstance(value, str) for value in found)
    else:
        assert found == expected


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_a_double_halfway_between_two_floats_is_rounded_like_its_text(shift: int) -> None:
    kind = type_of(column_of("real"))
    halfway = np.nextafter(1 + 2.0**-24, 2.0 * max(shift, 0)) if shift else 1 + 2.0**-24
    for number in (float(halfway), -float(halfway), 3.4028235677973366e38, 1e-45, 1.1754942807573643e-38):
        assert results(kind, pa.array([number])) == results(kind, pa.array([repr(number)]))


def test_booleans_are_the_words_true_and_false() -> None:
    values = pa.array([True, False, None])
    assert results(type_of(column_of("boolean")), values) == [b"\x01", b"\x00", None]
    assert results(type_of(column_of("text")), values) == [b"true", b"false", None]
    assert results(type_of(column_of("integer")), values) == ["true", "false", None]


def test_floats_in_a_column_of_integers_are_left_to_the_server() -> None:
    assert results(type_of(column_of("integer")), pa.array([1.5, None])) == ["1.5", None]


@settings(max_examples=100)
@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12)))
def test_decimals_are_read_like_their_digits(numbers: list[object]) -> None:
    kind = type_of(column_of("numeric"))
    values = pa.array(numbers, pa.decimal128(20, 4))
    assert results(kind, values) == results(kind, values.cast(pa.string()))


_FLOAT = np.finfo(np.float32)


@pytest.mark.parametrize(
    ("number", "quickly"),
    [(number, True) for number in (0.0, -0.0, 1.5, -0.1, 1e30, -1e-30, float(_FLOAT.smallest_normal), 2**24 + 1.5)]
    + [
        (number, True)
        for number in (math.nan, math.inf, -math.inf, float(np.nextafter(_FLOAT.max, 0)), 1 + 3 * 2.0**-25)
    ]
    + [(number, False) for number in (1 + 2.0**-24, -1 - 2.0**-24, 1e39, -1e300, float(_FLOAT.max), 1e-45, -1e-320)],
)
def test_a_double_becomes_a_float_without_its_text_unless_that_may_be_rounded_otherwise(
    number: float, quickly: bool
) -> None:
    """The text would give the same number, but takes longer."""
    assert _round_like_their_texts(pa.array([number])) == quickly
    assert _round_like_their_texts(pa.array([1.0, number, None])) == quickly
    assert _round_like_their_texts(pa.array([1.0, number, None, 2.0])[2:])


def test_bytes_that_are_not_utf8_stay_for_the_server_to_refuse() -> None:
    values = pa.array([b"1", b"\xff", None], pa.binary())
    assert as_string(values).cast(pa.binary()).to_pylist() == [b"1", b"\xff", None]
    assert as_string(values).type == pa.string()
    assert not all_match(values, "^[0-9]*$")
    assert all_match(values[2:], "x")
    for name in (*NUMBERS, "bytea", "time without time zone"):
        if name != "text":
            assert type_of(column_of(name)).parse(values, SOURCE).values.type == pa.string()


@pytest.mark.parametrize("text", ["12", "1:2", "12:34Z", "12:34:56.1234567", "", " 12:34"])
def test_only_canonical_times_of_a_day_are_read_here(text: str) -> None:
    found = type_of(column_of("time without time zone")).parse(pa.array(["12:34", text]), SOURCE).values
    assert (found.type, found.to_pylist()) == (pa.string(), ["12:34", text])


def test_floats_of_four_bytes_have_their_shortest_digits_also_in_a_wider_column() -> None:
    values = pa.array([0.1, None, 2.5, 16_777_216.0, math.inf], pa.float32())
    for kind in (type_of(column_of("real")), type_of(column_of("double precision"))):
        parsed = kind.parse(values, SOURCE)
        assert parsed.values.equals(pa.array([0.1, None, 2.5, 16_777_216.0, math.inf], kind.arrow))
