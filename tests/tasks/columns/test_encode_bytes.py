"""Encoded rows against bytes that this file builds itself, without a server, from the documented COPY formats."""

from __future__ import annotations

import struct
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from tasks.columns.decode import DecodedRows
from tasks.columns.encode_rows import HEADER, TRAILER, payload
from tests.support.encoded_events import COLUMNS, columns_of, encode, encode_with_words, repeats_of, rows_of

Row = tuple[int, uuid.UUID, str, str, str | None]

EPOCH_2000_US = 946_684_800_000_000
ROWS: list[Row] = [
    (EPOCH_2000_US, uuid.UUID(int=1), "click", "u1", '{"a": 1}'),
    (0, uuid.UUID(int=2**128 - 1), "", "", None),
    (1_704_164_645_123_456, uuid.UUID("0123abcd-4567-89ab-cdef-0123456789ab"), "né", "é" * 200, "{}"),
    (-1, uuid.UUID(int=7 << 64), "t", "u", ""),
]


def events_of(rows: list[Row]) -> DecodedRows:
    return rows_of(columns_of([(row[0], row[1].bytes, *row[2:]) for row in rows]))


def field(value: bytes | None) -> bytes:
    return struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value


def binary_row(row: Row) -> bytes:
    time, event_id, event_type, user_id, properties = row
    return struct.pack("!h", 5) + b"".join(
        [
            field(struct.pack("!q", time - EPOCH_2000_US)),
            field(event_id.bytes),
            field(event_type.encode()),
            field(user_id.encode()),
            field(None if properties is None else b"\x01" + properties.encode()),
        ]
    )


@pytest.mark.parametrize(
    "rows", [ROWS, ROWS[:1], ROWS[1:2], ROWS[2:], []], ids=["all", "first", "null", "last", "none"]
)
def test_each_event_becomes_one_row_of_the_binary_format(rows: list[Row]) -> None:
    assert encode(events_of(rows)).to_pylist() == [binary_row(row) for row in rows]


def test_the_header_and_the_trailer_are_those_of_the_binary_format() -> None:
    assert b"PGCOPY\n\xff\r\n\x00" + bytes(8) == HEADER
    assert TRAILER == b"\xff\xff"
    assert COLUMNS == ("time", "event_id", "event_type", "user_id", "properties")


def test_the_payload_of_a_slice_is_the_bytes_of_its_rows() -> None:
    encoded = encode(events_of(ROWS))
    expected = [binary_row(row) for row in ROWS]
    for start in range(len(ROWS)):
        for stop in range(start, len(ROWS) + 1):
            assert bytes(payload(encoded[start:stop])) == b"".join(expected[start:stop])


def test_a_column_for_the_server_selects_the_text_format_with_its_escapes_and_nulls() -> None:
    words = pa.array(["a\tb", None, "", "\\N\n\r"], pa.string())
    lines = encode_with_words(events_of(ROWS), words).to_pylist()
    texts = [r"a\tb", r"\N", "", r"\\N\n\r"]
    for line, row, text in zip(lines, ROWS, texts, strict=True):
        assert line.endswith(b"\n")
        time, event_id, *rest = line[:-1].decode().split("\t")
        assert datetime.fromisoformat(time) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row[0])
        assert uuid.UUID(event_id) == row[1]
        assert rest == [row[2], row[3], r"\N" if row[4] is None else row[4], text]


def test_every_column_of_the_text_format_is_escaped() -> None:
    row = (0, uuid.UUID(int=1), "a\\b", "c\nd", '"\t"')
    (line,) = encode_with_words(events_of([row]), pa.array(["x"], pa.string())).to_pylist()
    assert line == b"1970-01-01T00:00:00Z\t" + b"0" * 31 + b'1\ta\\\\b\tc\\nd\t"\\t"\tx\n'


def test_ids_that_share_one_half_or_only_the_time_are_different_keys() -> None:
    high, low = 5 << 64, 5
    ids = [high | low, low, high, (6 << 64) | low, high | 6]
    assert repeats_of(events_of([(0, uuid.UUID(int=i), "t", "u", None) for i in ids])) is None
    same_id = [(time, uuid.UUID(int=low), "t", "u", None) for time in (0, 1, -1)]
    assert repeats_of(events_of(same_id)) is None


def test_repeats_are_in_stream_order_and_name_the_first_row_of_their_key() -> None:
    keys = [(0, 1), (0, 2), (1, 1), (0, 1), (0, 2), (0, 1)]
    events = events_of([(time, uuid.UUID(int=i), "t", "u", None) for time, i in keys])
    found = repeats_of(events)
    assert found is not None
    assert [rows.tolist() for rows in found] == [[3, 4, 5], [0, 1, 0]]
    reverse = repeats_of(replace(events, stream_order=events.stream_order[::-1]))
    assert reverse is not None
    assert [rows.tolist() for rows in reverse] == [[3, 1, 0], [5, 4, 5]]


@pytest.mark.parametrize(
    ("keys", "later", "first"),
    [
        ([(0, 1), (0, 1)], [1], [0]),
        ([(0, 1), (0, 2), (0, 2)], [2], [1]),
        ([(0, 1), (5, 2), (5, 2)], [2], [1]),
        ([(0, 1), (0, 1 << 64 | 1), (0, 1), (0, 1 << 64 | 1)], [2, 3], [0, 1]),
        ([(0, 1), (0, 2), (0, 1), (1, 2), (1, 2)], [2, 4], [0, 3]),
    ],
    ids=["single key", "not the smallest id", "not the smallest time", "ids that share a half", "two times of an id"],
)
def test_every_repeat_of_a_key_is_found(keys: list[tuple[int, int]], later: list[int], first: list[int]) -> None:
    found = repeats_of(events_of([(time, uuid.UUID(int=i), "t", "u", None) for time, i in keys]))
    assert found is not None
    assert [rows.tolist() for rows in found] == [later, first]
