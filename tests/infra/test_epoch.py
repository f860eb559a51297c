"""Times as microseconds since 1970: exact, and rounded down for milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.epoch import POSTGRES_EPOCH_US, from_micros, micros_sql, timestamptz_sql, to_micros, to_millis


@pytest.mark.parametrize(
    ("moment", "micros", "millis"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0, 0),
        (datetime(2024, 1, 2, tzinfo=UTC), 1_704_153_600_000_000, 1_704_153_600_000),
        (datetime(2024, 1, 2, 0, 0, 0, 123_999, tzinfo=UTC), 1_704_153_600_123_999, 1_704_153_600_123),
        (datetime(2024, 1, 2, 2, tzinfo=timezone(timedelta(hours=2))), 1_704_153_600_000_000, 1_704_153_600_000),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1, -1),
        (datetime(1969, 12, 31, 23, 59, 59, 998_500, tzinfo=UTC), -1_500, -2),
    ],
)
def test_a_time_is_its_microseconds_and_its_whole_milliseconds(moment: datetime, micros: int, millis: int) -> None:
    assert to_micros(moment) == micros
    assert to_millis(moment) == millis
    assert from_micros(micros) == moment
    assert from_micros(micros).tzinfo is UTC


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_comes_back_from_its_microseconds(moment: datetime) -> None:
    assert from_micros(to_micros(moment)) == moment


def test_a_time_outside_the_years_1_to_9999_is_an_error() -> None:
    assert from_micros(253_402_300_799_999_999) == datetime.max.replace(tzinfo=UTC)
    assert from_micros(-62_135_596_800_000_000) == datetime.min.replace(tzinfo=UTC)
    for micros in (253_402_300_800_000_000, -62_135_596_800_000_001):
        with pytest.raises(OverflowError):
            from_micros(micros)


def test_the_epoch_of_postgresql_is_the_start_of_the_year_2000() -> None:
    assert from_micros(POSTGRES_EPOCH_US) == datetime(2000, 1, 1, tzinfo=UTC)


def test_the_sql_converts_between_a_timestamptz_and_microseconds() -> None:
    assert timestamptz_sql("t.us") == "('epoch'::timestamptz + t.us * interval '1 microsecond')"
    assert micros_sql("t.time") == "(extract(epoch FROM t.time) * 1000000)::bigint"
