"""Texts to times, against what Python computes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.columns import times
from tasks.columns.times import format_times, parse_times
from tests.support.decoded_entries import TIME, TIME_US, texts

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
# What makes a column leave the fast path: a spelling that Arrow does not know, one that is none, a number.
COMPANY = ["2024-01-02T03:04:05.123456789+01:00", "garbage", "17"]


def parsed(values: list[str]) -> list[int | None]:
    times, good = parse_times(texts(values))
    assert times.dtype == np.int64
    assert not times[~good].any()
    return [int(time) if ok else None for time, ok in zip(times, good, strict=True)]


def one(text: str) -> int | None:
    """The time of `text`, which is the same alone and among others that go another way."""
    alone = parsed([text])[0]
    mixed = parsed([text, *COMPANY])[0]
    among_many = parsed([TIME] * 50 + [text] + [TIME] * 50)[50]
    assert alone == mixed == among_many
    return alone


SPELLINGS = [
    (TIME, TIME_US),
    ("2024-01-02 03:04:05", TIME_US),
    ("2024-01-02T03:04:05", TIME_US),
    ("2024-01-02T03:04", TIME_US - 5_000_000),
    ("2024-01-02T03:04Z", TIME_US - 5_000_000),
    ("20240102T030405Z", TIME_US),
    ("2024-01-02", 1_704_153_600_000_000),
    ("2024-01-02T05:04:05+02:00", TIME_US),
    ("2024-01-02T05:04:05+0200", TIME_US),
    ("2024-01-02T05:04:05+02", TIME_US),
    ("2024-01-01T22:34:05-04:30", TIME_US),
    (" 2024-01-02T03:04:05Z\n", TIME_US),
    *(
        (f"2024-01-02T03:04:05.{'123456789'[:n]}Z", TIME_US + int("123456789"[:n].ljust(6, "0")[:6]))
        for n in range(1, 10)
    ),
    *((f"2024-01-02T03:04:05.{'9' * n}", TIME_US + int(("9" * n).ljust(6, "0")[:6])) for n in range(1, 10)),
    ("1969-12-31T23:59:59.9999999Z", -1),
    ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
    ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
    ("1704164645", TIME_US),
    ("1704164645000", TIME_US),
    ("1704164645000000", TIME_US),
    ("1704164645.5", TIME_US + 500_000),
    ("1704164645000.25", TIME_US + 250),
    ("1704164645000000.75", TIME_US),
    ("1704164645.9999999999999999999999", TIME_US + 999_999),  # more digits than Decimal's context has
    ("99999999999.99999999999999999999", 99_999_999_999_999_999),
    ("1.704164645e9", TIME_US),
    ("\t1704164645 ", TIME_US),
    ("+1704164645", TIME_US),
    ("+99999999999", 99_999_999_999_000_000),  # largest number of seconds; Arrow rejects the sign
    ("+100000000000", 100_000_000_000_000),
    ("+99999999999999", 99_999_999_999_999_000),
    ("+100000000000000", 100_000_000_000_000),
    ("0", 0),
    ("-1", -1_000_000),
    ("-1.5", -1_500_000),
    ("20240102", 20_240_102_000_000),
    (" 20240102 ", 20_240_102_000_000),
    ("99999999999", 99_999_999_999_000_000),
    ("100000000000", 100_000_000_000_000),
    ("99999999999999", 99_999_999_999_999_000),
    ("100000000000000", 100_000_000_000_000),
    ("999999999999999999", 999_999_999_999_999_999),
]


@pytest.mark.parametrize(("text", "micros"), SPELLINGS, ids=[repr(text) for text, _ in SPELLINGS])
def test_a_spelling_gives_its_microseconds(text: str, micros: int) -> None:
    assert one(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "garbage",
        "2024-13-01",
        "2024-02-30T00:00:00Z",
        "2024-01-02T24:00:00Z",
        "2024-01-02T03:04:05.",
        "2024-01-02T03:04:05 UTC",
        "10000-01-01T00:00:00Z",
        "2016-12-31T23:59:60Z",  # a leap second, which neither Python nor Arrow can represent
        "٢٠٢٤-٠١-٠٢",
        "١٧٠٤١٦٤٦٤٥",
        "1_704_164_645",
        "0x6593",
        "inf",
        "-Infinity",
        "nan",
        "sNaN",
        "1e400",
        "1e1000000",
        "1000000000000000000",
        "1" * 45,
        "9" * 10_000,
        "\x00",
    ],
    ids=lambda text: repr(text[:30]),
)
def test_a_text_that_is_no_time_is_told_apart_and_hurts_no_other(text: str) -> None:
    assert one(text) is None


def test_an_empty_column_has_no_times() -> None:
    assert parsed([]) == []


@settings(max_examples=150)
@given(
    moment=st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),
    minutes=st.integers(-14 * 60, 14 * 60),
    nanoseconds=st.integers(0, 999),
)
def test_every_spelling_of_any_datetime_gives_the_microseconds_that_python_computes(
    moment: datetime, minutes: int, nanoseconds: int
) -> None:
    utc = moment.replace(tzinfo=UTC)
    there = utc.astimezone(timezone(timedelta(minutes=minutes)))
    micros = (utc - EPOCH) // MICROSECOND
    spellings = [
        f"{moment.isoformat()}Z",
        f"{moment.isoformat(sep=' ', timespec='microseconds')}Z",
        moment.isoformat(),
        there.isoformat(),
        f"{moment.isoformat(timespec='microseconds')}{nanoseconds:03}Z",
        f" {utc.isoformat()} ",
    ]
    assert parsed(spellings) == [micros] * len(spellings)
    assert [parsed([text])[0] for text in spellings] == [micros] * len(spellings)
    to_the_millisecond = f"{moment.isoformat(timespec='milliseconds')}Z"
    assert one(to_the_millisecond) == micros // 1000 * 1000


@settings(max_examples=100)
@given(st.integers(1_000_000_000_000_000, 9_999_999_999_999_999), st.sampled_from([1, 1_000, 1_000_000]))
def test_a_number_is_read_by_its_size_and_its_decimals_count(micros: int, unit: int) -> None:
    whole, rest = divmod(micros, unit)
    digits = len(str(unit)) - 1
    assert one(str(whole)) == whole * unit
    assert one(f"{whole}.{rest:0{digits}}" if digits else str(whole)) == micros


@settings(max_examples=40)
@given(st.lists(st.sampled_from([*(text for text, _ in SPELLINGS), "garbage", "", "1e400"]), max_size=120), st.data())
def test_a_time_does_not_depend_on_its_neighbours_nor_on_where_a_slice_begins(
    values: list[str], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(values)))
    times, good = parse_times(texts(values)[cut:])
    alone = [parsed([value])[0] for value in values[cut:]]
    assert [int(time) if ok else None for time, ok in zip(times, good, strict=True)] == alone


def test_a_few_bad_ones_among_thousands_are_found_and_the_rest_is_kept() -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    values = [(start + timedelta(seconds=i)).isoformat().replace("+00:00", "Z") for i in range(5_000)]
    bad = [0, 1, 2_499, 2_500, 4_999]
    for i in bad:
        values[i] = "yesterday"
    first = (start - EPOCH) // MICROSECOND
    expected = [None if i in bad else first + i * 1_000_000 for i in range(5_000)]
    assert parsed(values) == expected


@pytest.mark.parametrize(
    ("unit", "number", "text"),
    [
        ("s", 1_704_164_645, "2024-01-02T03:04:05Z"),
        ("ms", 1_704_164_645_000, "2024-01-02T03:04:05Z"),
        ("ms", 1_704_164_645_120, "2024-01-02T03:04:05.120Z"),
        ("us", TIME_US + 1, "2024-01-02T03:04:05.000001Z"),
        ("us", TIME_US + 120_000, "2024-01-02T03:04:05.120Z"),
        ("ns", TIME_US * 1_000 + 999, "2024-01-02T03:04:05Z"),
        ("ns", -1, "1969-12-31T23:59:59.999999Z"),
        ("s", 200 * 146_097 * 86_400, "81970-01-01T00:00:00Z"),  # 200 × 400 years after 1970, which Arrow cannot format
        ("us", -(2**63) + 1, "-290308-12-21T19:59:05.224193Z"),
    ],
)
def test_the_canonical_text_of_a_time_has_as_few_digits_as_it_needs(unit: str, number: int, text: str) -> None:
    for kind in (pa.timestamp(unit), pa.timestamp(unit, "UTC")):
        times = pa.array([None, number, 0], pa.int64()).view(kind)
        assert format_times(times).to_pylist() == [None, text, "1970-01-01T00:00:00Z"]


def test_few_texts_of_a_column_are_parsed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one gives the same result and takes a hundred times as long."""
    alone: list[str] = []
    parse_one = times._parse_one
    monkeypatch.setattr(times, "_parse_one", lambda text: [alone.append(text), parse_one(text)][1])
    common = ["1700000000", "1700000000.", "-1.000", "2024-01-02T03:04:05Z"] * 100
    assert None not in parsed([*common, "1.5e9"])
    assert "1.5e9" in alone
    assert len(alone) <= 32
    assert not {"1700000000", "1700000000.", "-1.000"} & set(alone)


def test_up_to_32_texts_are_parsed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    alone: list[str] = []
    parse_one = times._parse_one
    monkeypatch.setattr(times, "_parse_one", lambda text: [alone.append(text), parse_one(text)][1])
    assert parsed(["2024-01-02T03:04:05Z"] * 31 + ["2024-W09-4"]).count(None) == 0
    assert len(alone) == 32
    alone.clear()
    assert parsed(["2024-01-02T03:04:05Z"] * 32 + ["2024-W09-4"]).count(None) == 0
    assert len(alone) == 17


def test_the_start_of_1970_is_a_time_like_any_other() -> None:
    assert parsed([*["1970-01-01T00:00:00Z"] * 40, "soon", *["1970-01-01T00:00:01Z"] * 40]) == [
        *[0] * 40,
        None,
        *[1_000_000] * 40,
    ]
