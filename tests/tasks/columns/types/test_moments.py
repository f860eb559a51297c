"""Times of every unit, format and time zone, as columns, compared with Python's own datetime."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.epoch import EPOCH, to_micros
from infra.mapping.column_source import ColumnSource
from tasks.columns.types.column_type import Parsed
from tasks.columns.types.temporal import DATE, TIMESTAMP, TIMESTAMPTZ

NEW_YORK = "America/New_York"
PLAIN = ColumnSource()


def micros(parsed: Parsed) -> list[int | None]:
    """The times; None for what is bad."""
    numbers = parsed.values.view(pa.int32() if pa.types.is_date32(parsed.values.type) else pa.int64())
    bad = np.zeros(len(numbers), bool) if parsed.bad is None else parsed.bad
    return [None if wrong else value for wrong, value in zip(bad.tolist(), numbers.to_pylist(), strict=True)]


def parse(texts: list[str] | list[int], **options: str) -> list[int | None]:
    return micros(TIMESTAMPTZ.parse(pa.array(texts), ColumnSource(**options)))  # type: ignore[arg-type]


def utc(text: str) -> int:
    return to_micros(datetime.fromisoformat(text).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("unit", "number", "expected"),
    [
        ("s", 17, 17_000_000),
        ("ms", 1_700_000_000_000, 1_700_000_000_000_000),
        ("ms", 17, 17_000),
        ("us", 17, 17),
        ("us", 10**18 - 1, 10**18 - 1),
        ("us", 10**18, None),
        ("ns", 1_999, 1),
        ("ns", -1_999, -1),  # digits are dropped, as from the number as a text
        ("ns", 2**63 - 1, 9_223_372_036_854_775),
        ("s", 10**12 - 1, (10**12 - 1) * 10**6),
        ("s", 10**12, None),
        ("s", 2**63 - 1, None),
        ("s", -(2**63), None),
        ("ns", -(2**63), -9_223_372_036_854_775),
        ("us", -210_866_803_200_000_000, -210_866_803_200_000_000),  # where PostgreSQL's timestamps begin
        ("us", -210_866_803_200_000_001, None),
    ],
)
def test_a_number_has_the_unit_of_the_mapping_whatever_its_size(unit: str, number: int, expected: int | None) -> None:
    assert parse([number], unit=unit) == [expected]
    assert parse([str(number)], unit=unit) == [expected]
    assert parse([str(number), "x"], unit=unit) == [expected, None]
    assert parse([f" {number}.0 ", "1"], unit=unit)[0] == expected


def test_a_fraction_keeps_its_digits_up_to_the_microsecond() -> None:
    assert parse(["1700000000.1234569", "-0.0000019", "1e3", "+5"], unit="s") == [
        *(1_700_000_000_123_456, -1, 1_000_000_000, 5_000_000)
    ]
    assert parse(["1.5", "1700000000123.4567"], unit="ms") == [1_500, 1_700_000_000_123_456]
    assert parse(["1999.9"], unit="ns") == [1]


@pytest.mark.parametrize("text", ["2024-01-01", "", "x", "1_0", "٣", "nan", "1e400", "0x10", "1,5"])
def test_a_text_that_is_not_a_number_is_refused_if_the_mapping_names_a_unit(text: str) -> None:
    parsed = TIMESTAMPTZ.parse(pa.array([text, "1"]), ColumnSource(unit="ms"))
    assert micros(parsed) == [None, 1000]
    assert parsed.expected == "a number of ms since 1970"


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("%d/%m/%Y %H:%M", "31/12/2024 23:59", utc("2024-12-31T23:59")),
        ("%d/%m/%Y %H:%M", "1/2/2024 3:04", utc("2024-02-01T03:04")),
        ("%d/%m/%Y %H:%M", "29/02/2023 00:00", None),
        ("%d/%m/%Y %H:%M", "31/04/2024 00:00", None),
        ("%d/%m/%Y %H:%M", "31/12/2024 23:59 ", None),
        ("%d/%m/%Y %H:%M", "31/12/2024", None),
        ("%Y-%m-%d %H:%M:%S", "2024-12-31 23:59:60", None),
        ("%Y-%m-%d %H:%M:%S", "1969-12-31 23:59:59", -1_000_000),
        ("%Y%m%d", "20240229", utc("2024-02-29")),
        ("%Y%m%d", "20230229", None),
        ("%H%M%S %d.%m.%Y", "235959 29.02.2024", utc("2024-02-29T23:59:59")),
        ("%b %d %Y %I:%M %p", "Feb 29 2024 01:05 PM", utc("2024-02-29T13:05")),
        ("%d/%b/%Y:%H:%M:%S %z", "29/Feb/2024:13:05:00 +0530", utc("2024-02-29T07:35")),
        ("%Y-%m-%dT%H:%M:%S.%f", "2024-02-29T13:05:00.123456", utc("2024-02-29T13:05:00.123456")),
        ("%d.%m.%y", "29.02.24", utc("2024-02-29")),
        ("%d.%m.%y", "29.02.72", utc("1972-02-29")),
        ("100%% %Y", "100% 2024", utc("2024-01-01")),
        ("%Y", "0001", utc("0001-01-01")),
        ("%Y", "12024", None),
    ],
)
def test_a_format_is_that_of_strptime(form: str, text: str, expected: int | None) -> None:
    assert parse([text], format=form) == [expected]
    parsed = TIMESTAMPTZ.parse(pa.array([text, None, "x", "infinity"]), ColumnSource(format=form))
    assert micros(parsed) == [expected, None, None, 2**63 - 1]
    assert parsed.expected == f"a time of the format {form}"


@settings(max_examples=200)
@given(st.text("%YmdHMS-/: .T", max_size=12), st.lists(st.text("0123456789-/: .T", max_size=14), max_size=5), st.data())
def test_a_column_of_a_format_is_read_like_python_reads_each_text(
    form: str, texts: list[str], data: st.DataObject
) -> None:
    moments = data.draw(st.lists(st.datetimes(datetime(1000, 1, 1)), max_size=3))
    try:
        texts = texts + [moment.strftime(form) for moment in moments]
        datetime.strptime(datetime(2024, 1, 2, 3, 4, 5).strftime(form), form)
    except (ValueError, re.error):  # a directive twice
        return
    assert parse([*texts, "x"], format=form)[:-1] == [python_reads(text, form) for text in texts]


def python_reads(text: str, form: str) -> int | None:
    try:
        return to_micros(datetime.strptime(text, form).replace(tzinfo=UTC))
    except ValueError:
        return None


def test_a_time_without_an_offset_is_in_the_time_zone_of_the_mapping() -> None:
    texts = [
        "2024-07-01 12:00",
        "2024-01-01T12:00:00.5",
        "2024-07-01",
        "2024-07-01T12:00Z",
        "1700000000",
        "20240701T12",
    ]
    assert parse(texts, timezone=NEW_YORK) == [
        utc("2024-07-01T16:00"),
        utc("2024-01-01T17:00:00.5"),
        utc("2024-07-01T04:00"),
        utc("2024-07-01T12:00"),
        1_700_000_000_000_000,
        utc("2024-07-01T16:00"),
    ]
    assert parse(["1.7.2024 12:00", "x"], timezone=NEW_YORK, format="%d.%m.%Y %H:%M") == [utc("2024-07-01T16:00"), None]
    assert parse(["1.7.2024 +0000"], timezone=NEW_YORK, format="%d.%m.%Y %z") == [utc("2024-07-01T00:00")]


def test_a_clock_that_is_changed_counts_as_in_postgresql() -> None:
    texts = ["2024-11-03 01:30", "2024-11-03 00:59", "2024-11-03 02:00", "2024-03-10 02:30", "2024-03-10 03:00"]
    assert parse(texts, timezone=NEW_YORK) == [
        utc("2024-11-03T06:30"),  # shown twice: the later one
        utc("2024-11-03T04:59"),
        utc("2024-11-03T07:00"),
        utc("2024-03-10T07:30"),  # never shown: as if the clock had not been changed
        utc("2024-03-10T07:00"),
    ]


ZONES = ("America/New_York", "Europe/Dublin", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo", "UTC")


@settings(max_examples=200)
@given(
    st.lists(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), max_size=6),
    st.sampled_from(ZONES),
    st.integers(0, 3),
)
def test_every_clock_is_read_like_zoneinfo_reads_it(clocks: list[datetime], zone: str, hours: int) -> None:
    clocks = [*clocks, *(datetime(2024, 3, 10) + timedelta(minutes=30 * n) for n in range(hours * 2))]
    texts = [clock.isoformat() for clock in clocks]
    expected = [_read_in_zone(clock, ZoneInfo(zone)) for clock in clocks]
    assert parse([*texts, "x"], timezone=zone)[:-1] == expected
    if texts:
        assert parse(texts, timezone=zone) == expected


def _read_in_zone(clock: datetime, zone: ZoneInfo) -> int:
    earlier, later = (clock.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    exists = any(moment.astimezone(zone).replace(tzinfo=None) == clock for moment in (earlier, later))
    return to_micros(later if exists else earlier)


def test_a_date_is_a_day_in_utc_or_in_the_time_zone_of_the_mapping() -> None:
    texts = pa.array(["2024-07-01", "2024-07-01T00:00", "2024-07-01T04:00Z", "2024-07-01T00:00Z", "2024-07-01 01:00"])
    in_utc, in_new_york = DATE.parse(texts, PLAIN), DATE.parse(texts, ColumnSource(timezone=NEW_YORK))
    day = (date(2024, 7, 1) - EPOCH.date()).days
    assert micros(in_utc) == [day, day, None, day, None]
    assert micros(in_new_york) == [day, day, day, None, None]


def test_a_date_at_a_midnight_that_no_clock_showed_is_that_date() -> None:
    parsed = DATE.parse(pa.array(["2018-11-04"]), ColumnSource(timezone="America/Sao_Paulo"))
    assert micros(parsed) == [(date(2018, 11, 4) - EPOCH.date()).days]


def test_a_timestamp_is_the_wall_clock_in_utc() -> None:
    texts = pa.array(["2024-07-01T12:00:00-04:00", "2024-07-01T12:00:00", "1719849600"])
    assert micros(TIMESTAMP.parse(texts, PLAIN)) == [
        utc("2024-07-01T16:00"),
        utc("2024-07-01T12:00"),
        utc("2024-07-01T16:00"),
    ]


OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
ISO = st.builds(
    lambda moment, spec, mark: moment.isoformat(mark, spec),
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=OFFSETS | st.none()),
    st.sampled_from(["auto", "seconds", "minutes", "milliseconds", "hours"]),
    st.sampled_from(["T", " "]),
)
ODD = (
    st.text("0123456789-:TZ+. ", max_size=25)
    | st.from_regex(r"[0-9]{1,14}(\.[0-9]{0,9})?", fullmatch=True)
    | ISO.map(lambda text: text.replace(":", "", 1).replace("-", ""))
    | st.sampled_from(
        ["2024-W09-4", "2024-060", "2024-02-29T24:00", "2024-02-29 03", "2024-02-29T03:04:05,5", "0000-01-01"]
    )
    | st.sampled_from(["infinity", "INFINITY ", "-infinity", "now", "2024-02-29T03:04+05", "2024-02-29T03:04:05.123z"])
)


@settings(max_examples=120)
@given(st.lists(ISO | ODD, min_size=1, max_size=40), st.sampled_from([PLAIN, ColumnSource(timezone=NEW_YORK)]))
def test_what_a_text_means_does_not_depend_on_its_neighbours(texts: list[str], source: ColumnSource) -> None:
    for kind in (TIMESTAMPTZ, DATE):
        together = micros(kind.parse(pa.array(texts), source))
        assert together == [micros(kind.parse(pa.array([text]), source))[0] for text in texts]


@settings(max_examples=200)
@given(st.lists(ISO, min_size=1, max_size=10))
def test_iso_8601_is_read_like_python_reads_it(texts: list[str]) -> None:
    expected = []
    for text in texts:
        moment = datetime.fromisoformat(text)
        expected.append(to_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC)))
    assert micros(TIMESTAMPTZ.parse(pa.array(texts), PLAIN)) == expected


def test_infinity_is_a_date_in_every_time_zone() -> None:
    parsed = DATE.parse(pa.array(["infinity", "-infinity", None]), ColumnSource(timezone=NEW_YORK))
    assert parsed.bad is None
    assert micros(parsed) == [2**31 - 1, -(2**31), None]


@pytest.mark.parametrize(
    "text", ["0001-01-01", "9999-12-31T23:59:59.999999", "99999999999999999", "999999999999999999"]
)
@pytest.mark.parametrize("zone", ["Asia/Tokyo", NEW_YORK])
def test_a_time_at_the_end_of_the_calendar_is_read_or_refused_in_every_time_zone(text: str, zone: str) -> None:
    for kind in (TIMESTAMPTZ, DATE):
        together = micros(kind.parse(pa.array([text, "2024-01-01"]), ColumnSource(timezone=zone)))
        assert together[1] is not None
        assert together[0] == micros(kind.parse(pa.array([text]), ColumnSource(timezone=zone)))[0]


def test_a_clock_that_its_zone_cannot_show_is_bad_and_changes_no_neighbour() -> None:
    """Its time lies after the year 9999, or before the year 1."""
    late, early = "9999-12-31T23:30:00", "0001-01-01T00:30:00"
    texts = ["2024-01-01T00:00:00", late, "soon", "2024-01-01T00:00:00Z", early, "infinity"]
    noon = utc("2024-01-01T00:00:00")
    found = parse(texts, timezone=NEW_YORK)
    assert found[:5] == [noon + 5 * 3_600_000_000, None, None, noon, utc(early) + 17_762_000_000]
    assert parse(texts, timezone="Asia/Tokyo")[:5] == [
        noon - 9 * 3_600_000_000,
        utc(late) - 32_400_000_000,
        None,
        noon,
        None,
    ]
    assert found[5] == 2**63 - 1
    dates = DATE.parse(
        pa.array([late + "Z", early + "Z", "soon", "2024-01-01T05:00:00Z"]), ColumnSource(timezone=NEW_YORK)
    )
    assert micros(dates) == [None, None, None, 19_723]
    dates = DATE.parse(pa.array([late + "Z", "2024-01-01T15:00:00Z", "soon"]), ColumnSource(timezone="Asia/Tokyo"))
    assert micros(dates) == [None, 19_724, None]
