"""Numbers of a format, infinity, and the year 0."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from infra.epoch import to_micros
from infra.mapping.column_source import ColumnSource
from tasks.columns.types.moments import read_moments

PLAIN = ColumnSource()


def parse(values: list[str] | list[int], source: ColumnSource = PLAIN) -> list[int | None]:
    """The times; None for what is bad."""
    found = read_moments(pa.array(values), source)
    return [None if bad else micros for bad, micros in zip(found.bad.tolist(), found.micros.tolist(), strict=True)]


def utc(text: str) -> int:
    return to_micros(datetime.fromisoformat(text).replace(tzinfo=UTC))


def test_a_number_is_read_by_the_format_of_the_mapping_like_its_digits() -> None:
    assert parse([20240229, 20230229], ColumnSource(format="%Y%m%d")) == [utc("2024-02-29"), None]


def test_infinity_has_a_sign() -> None:
    found = read_moments(pa.array(["infinity", "2024-02-29", None, " -Infinity ", "x"]), PLAIN)
    assert found.infinite is not None
    assert found.infinite.tolist() == [1, 0, 0, -1, 0]
    assert found.bad.tolist() == [False, False, False, False, True]
    assert read_moments(pa.array(["2024-02-29", "x"]), PLAIN).infinite is None


@pytest.mark.parametrize(
    "text", ["0000-01-01", "0000-12-31T12:00:00Z", "0000-12-31T20:00-05:00", " 0000-12-31T23:59-23:59"]
)
def test_there_is_no_year_0(text: str) -> None:
    """It is 1 BC for some readers, and an error for others; with an offset, it may be the year 1 in UTC."""
    assert parse([text]) == [None]
    assert parse(["0001-01-01", text]) == [utc("0001-01-01"), None]


def test_texts_may_be_bytes_and_there_may_be_none() -> None:
    found = read_moments(pa.array([b"1970-01-01T00:00:01Z", b"soon"]), PLAIN)
    assert (found.micros.tolist()[0], found.bad.tolist()) == (1_000_000, [False, True])
    for arrow in (pa.string(), pa.binary(), pa.int64()):
        found = read_moments(pa.array([], arrow), PLAIN)
        assert (len(found.micros), len(found.local), len(found.bad), found.absent) == (0, 0, 0, None)
