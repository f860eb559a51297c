"""Entry ids as numbers, and the ids that a user's times and ids mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors.exceptions import WrongUse
from tasks.base.addresses import IdRange, id_text, parse_id, parse_range, parse_since, parse_until

PART = st.integers(0, 2**64 - 1)
LAST_SEQ = 2**64 - 1


@given(PART, PART, PART, PART)
def test_id_numbers_sort_in_stream_order(ms: int, seq: int, ms2: int, seq2: int) -> None:
    one, other = f"{ms}-{seq}", f"{ms2}-{seq2}"
    assert id_text(parse_id(one)) == one
    assert parse_id(one.encode()) == parse_id(one)
    assert (parse_id(one) < parse_id(other)) == ((ms, seq) < (ms2, seq2))


def test_an_id_without_a_sequence_number_means_sequence_zero() -> None:
    assert parse_id("5") == parse_id("5-0") == 5 << 64


def test_the_id_after_the_last_of_a_millisecond_is_the_first_of_the_next() -> None:
    assert id_text(parse_id(f"7-{LAST_SEQ}") + 1) == "8-0"


def test_a_range_is_printed_as_its_first_and_last_id() -> None:
    assert str(IdRange(parse_id("1-5"), parse_id("2-0"))) == f"1-5..1-{LAST_SEQ}"


@pytest.mark.parametrize("text", ["", "x", "1-x", "x-1"])
def test_text_that_is_not_an_entry_id_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse_id(text)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("1700000000000-5", "1700000000000-5", "1700000000000-5"),
        ("1700000000000-0", "1700000000000-0", "1700000000000-0"),
        ("1700000000000", "1700000000000-0", f"1700000000000-{LAST_SEQ}"),
        ("100000000-0", "100000000-0", "100000000-0"),
        (f"{LAST_SEQ}-{LAST_SEQ}", f"{LAST_SEQ}-{LAST_SEQ}", f"{LAST_SEQ}-{LAST_SEQ}"),
        ("2024-01-02T00:00:00Z", "1704153600000-0", f"1704153600000-{LAST_SEQ}"),
        ("2024-01-02T02:00:00+02:00", "1704153600000-0", f"1704153600000-{LAST_SEQ}"),
        ("2024-01-02T00:00:00.123Z", "1704153600123-0", f"1704153600123-{LAST_SEQ}"),
        ("2024-01-02T00:00:00.123999Z", "1704153600123-0", f"1704153600123-{LAST_SEQ}"),
        ("20240102T000000Z", "1704153600000-0", f"1704153600000-{LAST_SEQ}"),
        ("1970-01-01T00:00:00Z", "0-0", f"0-{LAST_SEQ}"),
    ],
)
def test_a_time_or_an_id_covers_a_first_and_a_last_id(text: str, first: str, last: str) -> None:
    assert id_text(parse_since(text)) == first
    assert id_text(parse_until(text)) == last


@given(st.integers(0, 4_102_444_800_000), st.integers(-14 * 60, 14 * 60))
def test_a_time_includes_its_whole_millisecond(ms: int, minutes: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    text = moment.astimezone(timezone(timedelta(minutes=minutes))).isoformat()
    assert id_text(parse_since(text)) == f"{ms}-0"
    assert id_text(parse_until(text)) == f"{ms}-{LAST_SEQ}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected an entry id"),
        ("-", "expected an entry id"),
        ("now", "expected an entry id"),
        ("1700000000000-", "expected an entry id"),
        ("1700000000000-1-2", "expected an entry id"),
        ("1700000000000-x", "expected an entry id"),
        ("2024-01", "expected an entry id"),  # a month to a person, an id to Redis: ambiguous, so it is refused
        ("²²²²²²²²²²", "expected an entry id"),
        ("١٧٠٠٠٠٠٠٠٠٠٠٠", "expected an entry id"),
        ("9" * 30, "expected an entry id"),
        (f"{2**64}-0", "below 2^64"),
        (f"1700000000000-{2**64}", "below 2^64"),
        ("2024-01-02", "expected a time with an offset, found '2024-01-02'; add Z or +hh:mm"),
        ("20240102", "expected a time with an offset"),
        ("2024-01-02T00:00:00", "expected a time with an offset"),
        ("1969-12-31T23:59:59.999Z", "in 1970 or later"),
    ],
)
def test_other_text_is_refused_and_the_message_names_the_parameter_and_the_text(text: str, reason: str) -> None:
    for parse, default in ((parse_until, "until"), (parse_since, "since")):
        for name, options in ((default, {}), ("stop", {"name": "stop"})):
            with pytest.raises(WrongUse, match=f"^{name}: ") as refused:
                parse(text, **options)
            assert reason in str(refused.value)
            assert repr(text) in str(refused.value)


def test_a_range_includes_both_ends_and_is_open_at_an_end_that_is_not_given() -> None:
    assert parse_range("100000000-3", "100000000-7") == IdRange(parse_id("100000000-3"), parse_id("100000000-8"))
    assert parse_range("100000000", "100000000") == IdRange(100_000_000 << 64, 100_000_001 << 64)
    assert parse_range(None, None) == IdRange(0, 2**128)
