"""Columns of any type become text that reads back as the same value."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.columns.times import parse_times
from tasks.columns.uuids import parse_uuids
from tasks.files.formats.as_text import as_text, is_json
from tasks.files.formats.spelling import Spelling

EPOCH = datetime(1970, 1, 1)


def instant(value: datetime) -> str:
    """Format a time like `java.time.Instant`: a fraction of 0, 3 or 6 digits, as few as needed."""
    micros = value.microsecond
    return value.isoformat(timespec="microseconds" if micros % 1000 else "milliseconds" if micros else "seconds") + "Z"


a_time = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999))


def texts(values: list[Any], kind: pa.DataType) -> list[str | None]:
    """Convert a column whole, in slices and dictionary-encoded, and check that all agree."""
    array = pa.array(values, kind)
    found = as_text(array)
    assert found.type == pa.binary()
    assert as_text(pa.concat_arrays([array, array]).slice(len(values))).equals(found)
    assert as_text(array.slice(1)).equals(found.slice(1))
    return [None if value is None else value.decode() for value in found.to_pylist()]


@given(st.lists(st.none() | a_time))
def test_microseconds_are_exact(values: list[datetime | None]) -> None:
    expected = [value and instant(value) for value in values]
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.timestamp("us", "Europe/Berlin")):
        micros = [value and (value - EPOCH) // timedelta(microseconds=1) for value in values]
        assert texts(micros, kind) == expected
    whole = [value and value.replace(microsecond=0) for value in values]
    assert texts(whole, pa.timestamp("s")) == [value and value.isoformat() + "Z" for value in whole]


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_nanoseconds_are_truncated_to_microseconds(values: list[int]) -> None:
    found = texts(values, pa.timestamp("ns"))
    assert found == [instant(EPOCH + timedelta(microseconds=ns // 1000)) for ns in values]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_round_trip(unit: str) -> None:
    micros = [0, 1_704_164_645_000_000, 1_567_296_000_123_000, -86_400_000_000]
    array = pa.array(micros, pa.timestamp("us", "UTC")).cast(pa.timestamp(unit, "UTC"), safe=False)
    read, good = parse_times(as_text(array).cast(pa.string()))
    assert good.all()
    assert read.tolist() == [us // 1_000_000 * 1_000_000 if unit == "s" else us for us in micros]


def test_times_outside_the_calendar_do_not_affect_other_rows() -> None:
    for unit in ("s", "ms", "us"):
        found = texts([2**63 - 1, -(2**63), 0, None], pa.timestamp(unit))
        assert found[2:] == [{"s": "1970-01-01T00:00:00Z"}.get(unit, found[2]), None]
        assert None not in found[:3]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([10**12, -(10**12)], pa.timestamp("s"), ["33658-09-27T01:46:40Z", "-29719-04-05T22:13:20Z"]),
        ([10**15, 0, None], pa.timestamp("s"), ["31690708-07-05T01:46:40Z", "1970-01-01T00:00:00Z", None]),
        ([10**18 + 120], pa.timestamp("ms"), ["31690708-07-05T01:46:40.120Z"]),
        ([2**62], pa.timestamp("us"), ["148108-07-06T14:00:27.387904Z"]),
        ([2**31 - 1, -(2**31), 0, None], pa.date32(), ["5881580-07-11", "-5877641-06-23", "1970-01-01", None]),
        ([86_400_000 * 10**7, 86_400_000, None], pa.date64(), ["29349-01-26", "1970-01-02", None]),
        ([86_400_000 * 10**8, -86_400_000], pa.date64(), ["275760-09-13", "1969-12-31"]),
    ],
    ids=str,
)
def test_times_that_arrow_cannot_format_are_formatted(
    values: list[int | None], kind: pa.DataType, expected: list[str | None]
) -> None:
    """Arrow writes «value out of range» for each of them: a text that is the same for different values."""
    assert texts(values, kind) == expected


@given(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-2000, 2000)),
    st.sampled_from(["s", "ms", "us", "ns"]),
)
def test_durations_of_any_length_are_exact(values: list[int | None], unit: str) -> None:
    factor = {"s": Fraction(10**6), "ms": Fraction(1000), "us": Fraction(1), "ns": Fraction(1, 1000)}[unit]
    expected = [None if value is None else str(int(value * factor)) for value in values]
    assert texts(values, pa.duration(unit)) == expected
    short = [value and value % 10**9 - 5 * 10**8 for value in values]
    nested = pa.array([short], pa.list_(pa.int64())).cast(pa.list_(pa.duration(unit)))
    found = json.loads(as_text(nested)[0].as_py())
    assert found == [None if value is None else int(value * factor) for value in short]


@given(st.lists(st.none() | st.uuids()))
def test_uuids_have_their_usual_spelling(values: list[UUID | None]) -> None:
    expected = [value and str(value) for value in values]
    raw = [value and value.bytes for value in values]
    assert texts(raw, pa.binary(16)) == expected
    assert [value and value.decode() for value in as_text(pa.array(raw, pa.uuid())).to_pylist()] == expected
    read, good = parse_uuids(
        as_text(pa.array([value for value in raw if value], pa.binary(16))).cast(pa.string()), False
    )
    assert good.all()
    assert read.tobytes() == b"".join(value for value in raw if value)


@given(st.lists(st.none() | st.binary()))
def test_text_and_bytes_stay_unchanged(values: list[bytes | None]) -> None:
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view()):
        assert as_text(pa.array(values, kind)).to_pylist() == values
        assert as_text(pa.array(values, pa.binary()).dictionary_encode()).to_pylist() == values


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]))))
def test_strings_stay_unchanged(values: list[str | None]) -> None:
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        assert texts(values, kind) == values


@given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False)))
def test_floats_round_trip_and_are_json(values: list[float | None]) -> None:
    found = texts(values, pa.float64())
    read = [None if text is None else float(text) for text in found]
    assert [None if text is None else json.loads(text) for text in found] == values
    assert found == [None if value is None else repr(value) for value in values]
    assert [np.float64(value).tobytes() for value in read if value is not None] == [
        np.float64(value).tobytes() for value in values if value is not None
    ]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_32_bit_floats_round_trip(values: list[float]) -> None:
    assert [np.float32(text) for text in texts(values, pa.float32())] == [np.float32(value) for value in values]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([True, False, None], pa.bool_(), ["true", "false", None]),
        ([2**64 - 1, 0], pa.uint64(), ["18446744073709551615", "0"]),
        ([-(2**63), None], pa.int64(), ["-9223372036854775808", None]),
        ([-7], pa.int8(), ["-7"]),
        ([0.5, None], pa.float16(), ["0.5", None]),
        ([float("nan"), float("inf")], pa.float64(), ["nan", "inf"]),
        ([Decimal("1.50"), Decimal("-0.01"), None], pa.decimal128(20, 2), ["1.50", "-0.01", None]),
        ([Decimal(10**50)], pa.decimal256(60, 0), [str(10**50)]),
        ([19_000, None], pa.date32(), ["2022-01-08", None]),
        ([1_500], pa.time32("ms"), ["00:00:01.500"]),
        ([1_500_000_000, 0, 1], pa.time64("ns"), ["00:00:01.500", "00:00:00", "00:00:00.000000001"]),
        ([1_500], pa.duration("ms"), ["1500000"]),
        ([1_500_999], pa.duration("ns"), ["1500"]),
        ([Decimal("1E-8"), Decimal(0)], pa.decimal128(10, 8), ["0.00000001", "0.00000000"]),
        ([Decimal(1200), None], pa.decimal128(5, -2), ["1200", None]),
        ([b"abc"], pa.binary(3), ["abc"]),
        ([None, None], pa.null(), [None, None]),
    ],
    ids=str,
)
def test_values_of_other_types_have_their_documented_text(
    values: list[Any], kind: pa.DataType, expected: list[str | None]
) -> None:
    assert texts(values, kind) == expected


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([{"a": 1, "b": ["x", None]}, None], pa.struct({"a": pa.int64(), "b": pa.list_(pa.string())}), None),
        ([[1, 2], [], None], pa.list_(pa.int32()), None),
        ([[("k", 1.5)], []], pa.map_(pa.string(), pa.float64()), [{"k": 1.5}, {}]),
        ([[(1, True)]], pa.map_(pa.int8(), pa.bool_()), [{"1": True}]),
        (
            [[datetime(2024, 1, 2, 3, 4, 5, 6, UTC)]],
            pa.list_(pa.timestamp("us", "UTC")),
            [["2024-01-02T03:04:05.000006Z"]],
        ),
        ([[1_704_164_645_123_456_789]], pa.list_(pa.timestamp("ns")), [["2024-01-02T03:04:05.123456Z"]]),
        ([[b"abc", b"\xff"]], pa.list_(pa.binary()), [["abc", "ff"]]),
        ([[timedelta(milliseconds=1)]], pa.list_(pa.duration("us")), [[1000]]),
    ],
    ids=str,
)
def test_lists_structs_and_maps_become_json(values: list[Any], kind: pa.DataType, expected: list[Any] | None) -> None:
    found = [text and json.loads(text) for text in as_text(pa.array(values, kind)).cast(pa.string()).to_pylist()]
    assert found == (values if expected is None else expected)


def test_uuids_in_a_list_are_written_as_uuids() -> None:
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([UUID(int=1).bytes], pa.binary(16)))
    assert as_text(pa.ListArray.from_arrays([0, 1], ids)).to_pylist() == [b'["%s"]' % str(UUID(int=1)).encode()]


def test_a_number_in_a_struct_keeps_its_digits() -> None:
    kind = pa.struct({"n": pa.decimal128(30, 10)})
    assert texts([{"n": Decimal("12345678901234567890.0123456789")}], kind) == ['{"n":12345678901234567890.0123456789}']


@pytest.mark.parametrize("values", [[[1.5, float("nan")]], [[float("-inf"), None]], [None, [2.0]]])
def test_nan_and_infinity_in_a_list_are_strings_and_were_null_in_the_first_release(values: list[Any]) -> None:
    array = pa.array(values, pa.list_(pa.float64()))
    names = {"nan": "NaN", "-inf": "-Infinity"}
    named = [value and [names.get(str(number), number) for number in value] for value in values]
    assert [text and json.loads(text) for text in as_text(array).to_pylist()] == named
    null = [value and [None if str(number) in names else number for number in value] for value in values]
    assert [text and json.loads(text) for text in as_text(array, nan_as_null=True).to_pylist()] == null


def test_nan_is_found_at_any_depth_and_in_any_slice() -> None:
    kind = pa.map_(pa.string(), pa.struct({"x": pa.list_(pa.float32())}))
    array = pa.array([[("a", {"x": [1.0]})], [("b", {"x": [None, float("inf")]})], None], kind)
    expected = [{"a": {"x": [1.0]}}, {"b": {"x": [None, "Infinity"]}}, None]
    for start in range(3):
        assert [text and json.loads(text) for text in as_text(array.slice(start)).to_pylist()] == expected[start:]


@pytest.mark.parametrize(
    ("values", "kind", "spelling", "expected"),
    [
        ([b"\x00\xff", b"", None], pa.binary(), "bytea", ["\\x00ff", "\\x", None]),
        (["\\x41", None], pa.string(), "bytea", ["\\x41", None]),
        ([UUID(int=1).bytes], pa.uuid(), "bytea", ["\\x" + "00" * 15 + "01"]),
        ([-(2**63)], pa.duration("s"), "interval", [f"-{2**63}000000 microseconds"]),
        ([1_999, None], pa.duration("ns"), "interval", ["1 microseconds", None]),
        (["PT1S"], pa.string(), "interval", ["PT1S"]),
        ([0, None], pa.date32(), "json", ['"1970-01-01"', None]),
        ([0], pa.timestamp("ns", "Asia/Tokyo"), "json", ['"1970-01-01T00:00:00Z"']),
        ([UUID(int=1).bytes, None], pa.uuid(), "json", [f'"{UUID(int=1)}"', None]),
        ([float("nan"), 0.5, None], pa.float64(), "json", ['"NaN"', "0.5", None]),
        ([1_500], pa.duration("ms"), "json", ["1500000"]),
        (["{}", "x"], pa.string(), "json", ["{}", "x"]),
        ([True, None], pa.bool_(), "json", ["true", None]),
    ],
    ids=str,
)  # fmt: skip
def test_columns_that_need_another_text_get_it(
    values: list[Any], kind: pa.DataType, spelling: Spelling, expected: list[str | None]
) -> None:
    array = pa.array(values, kind)
    assert [value and value.decode() for value in as_text(array, spelling).to_pylist()] == expected
    assert [value and value.decode() for value in as_text(array.slice(1), spelling).to_pylist()] == expected[1:]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.int8(), True),
        (pa.bool_(), True),
        (pa.float16(), True),
        (pa.decimal256(50, 2), True),
        (pa.list_(pa.string()), True),
        (pa.struct({"a": pa.date32()}), True),
        (pa.map_(pa.string(), pa.string()), True),
        (pa.dictionary(pa.int8(), pa.int64()), True),
        (pa.json_(), True),
        (pa.string(), False),
        (pa.dictionary(pa.int8(), pa.string()), False),
        (pa.binary(), False),
        (pa.binary(16), False),
        (pa.uuid(), False),
        (pa.timestamp("us", "UTC"), False),
        (pa.date32(), False),
        (pa.time32("s"), False),
        (pa.duration("s"), False),
        (pa.null(), False),
    ],
    ids=str,
)
def test_numbers_booleans_and_nested_values_are_json_and_all_others_are_texts(
    kind: pa.DataType, expected: bool
) -> None:
    assert is_json(kind) == expected
