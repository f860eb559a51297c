"""Events to the bytes of a binary COPY, through a real table and back."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.columns.decode import DecodedRows
from tests.support.copied_rows import EARLIEST_US, LATEST_US, copy_rows, rows_held
from tests.support.decoded_entries import Events, decoded, decoded_json, document, flat
from tests.support.encoded_events import columns_of, encode, repeats_of, rows_of
from tests.support.servers import Servers

Row = tuple[int, uuid.UUID, str, str, str | None]


@pytest.fixture(scope="module")
def table(servers: Servers) -> Iterator[psycopg.Connection]:
    """A table like `events`; its jsonb as text shows what the server made of a document."""
    with psycopg.connect(servers.settings.database, autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE rows (LIKE events)")
        yield connection


def events_of(rows: list[Row]) -> DecodedRows:
    columns = columns_of([(row[0], row[1].bytes, *row[2:]) for row in rows])
    # The index in the batch says nothing about the stream order.
    return rows_of(columns, np.arange(len(rows), dtype=np.int64)[::-1])


def as_held(rows: list[Row]) -> list[tuple[Any, ...]]:
    return [(*row[:4], None if row[4] is None else json.loads(row[4])) for row in rows]


def parsed(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(*row[:4], None if row[4] is None else json.loads(row[4])) for row in rows]


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=20)
JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXT,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXT, children, max_size=3),
    max_leaves=5,
)
ROW = st.tuples(
    st.integers(EARLIEST_US, LATEST_US) | st.sampled_from([EARLIEST_US, LATEST_US, 0, -1, 946_684_800_000_000]),
    st.uuids(),
    TEXT,
    TEXT,
    st.none() | JSON_VALUE.map(json.dumps) | JSON_VALUE.map(lambda value: json.dumps(value, ensure_ascii=False)),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=st.lists(ROW, min_size=1, max_size=12), data=st.data())
def test_any_events_are_in_the_table_as_they_were_whole_or_in_slices(
    table: psycopg.Connection, rows: list[Row], data: st.DataObject
) -> None:
    encoded = encode(events_of(rows))
    assert copy_rows(table, encoded) == len(rows)
    assert parsed(rows_held(table)) == as_held(rows)
    cut = data.draw(st.integers(0, len(rows)))
    assert copy_rows(table, encoded[:cut], encoded[cut:]) == len(rows)
    assert parsed(rows_held(table)) == as_held(rows)
    if cut < len(rows):
        assert copy_rows(table, encoded[cut:]) == len(rows) - cut
        assert parsed(rows_held(table)) == as_held(rows[cut:])


def test_documents_reach_the_table_with_their_big_numbers_and_decimals(table: psycopg.Connection) -> None:
    text = '{"big": 123456789012345678901234567890, "one": 1.0, "four": "\U0001f600"}'
    copy_rows(table, encode(decoded_json([document().replace(b'{"n": 1}', text.encode())]).rows))
    stored = table.execute("SELECT properties->>'big', properties->>'one', properties->>'four' FROM rows").fetchone()
    assert stored == ("123456789012345678901234567890", "1.0", "\U0001f600")


def test_a_document_of_a_megabyte_between_small_ones(table: psycopg.Connection) -> None:
    large = json.dumps({"text": "é\U0001f600" * 170_000}, ensure_ascii=False)
    assert len(large.encode()) > 1_000_000
    rows: list[Row] = [(i, uuid.UUID(int=i), "t", "u", text) for i, text in enumerate(["{}", large, None])]
    assert copy_rows(table, encode(events_of(rows))) == 3
    assert parsed(rows_held(table)) == as_held(rows)


def test_decoded_slices_of_columns_are_encoded_as_their_own_rows(table: psycopg.Connection) -> None:
    """Columns that come out of `take`, with offsets and nulls of their own."""
    events = decoded_json([document(user_id=i, properties=None if i % 2 else i) for i in range(10)])
    copy_rows(table, encode(events.rows.take(np.array([7, 2, 4]))))
    assert [(row[3], row[4]) for row in rows_held(table)] == [("7", None), ("2", "2"), ("4", "4")]


def test_no_events_are_no_bytes(table: psycopg.Connection) -> None:
    rows = encode(decoded([flat(time="bad")]).rows)
    assert len(rows) == 0
    assert copy_rows(table, encode(events_of([(0, uuid.UUID(int=1), "", "", None)]))[:0]) == 0


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"properties": "{bad"}, "22P02"),
        ({"properties": ""}, "22P02"),
        ({"properties": '{"a": "\\u0000"}'}, "22P05"),
        ({"properties": '{"a": "\\ud800"}'}, "22P02"),
        ({"properties": b'{"a": "\xff"}'}, "22021"),
        ({"user_id": "nul\x00"}, "22021"),
    ],
)
def test_what_only_the_server_can_refuse_it_refuses_with_a_data_exception_and_the_line(
    table: psycopg.Connection, changes: dict[str, str | bytes], state: str
) -> None:
    """`tasks.table.load` sets such rows apart by the class of the SQLSTATE and the line."""
    encoded = encode(decoded([flat(), flat(**changes), flat()]).rows)
    with pytest.raises(psycopg.DataError) as refused:
        copy_rows(table, encoded)
    assert refused.value.sqlstate == state
    assert "line 2" in (refused.value.diag.context or "")
    assert copy_rows(table, encoded[:1], encoded[2:]) == 2


def first_of_each_key_naively(events: Events) -> dict[int, int]:
    """Row → the row of its key that came first in the stream, of the rows that are not the first themselves."""
    best: dict[tuple[int, bytes], int] = {}
    keys = [(time, event_id.tobytes()) for time, event_id in zip(events.time.tolist(), events.event_id, strict=True)]
    for row, key in enumerate(keys):
        if key not in best or events.stream_order[row] < events.stream_order[best[key]]:
            best[key] = row
    return {row: best[key] for row, key in enumerate(keys) if best[key] != row}


# Few of each, and ids that share a half: low halves that collide, high halves that collide.
FEW_IDS = st.sampled_from([uuid.UUID(int=high << 64 | low) for high in (0, 1, 2**63) for low in (0, 1, 2**64 - 1)])


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from([0, 1, -1]), FEW_IDS), max_size=30), st.randoms())
def test_rows_that_repeat_a_key_are_found_in_stream_order_with_the_first_of_that_key(
    keys: list[tuple[int, uuid.UUID]], random: Any
) -> None:
    rows = events_of([(time, event_id, str(i), "", None) for i, (time, event_id) in enumerate(keys)])
    random.shuffle(order := list(range(len(keys))))
    rows = rows.take(np.array(order, np.int64))  # groups of different shapes follow each other in a batch
    events = Events(rows, rows.entry, [])
    found = repeats_of(rows)
    expected = first_of_each_key_naively(events)
    if not expected:
        assert found is None
        return
    assert found is not None
    later, first = found
    assert dict(zip(later.tolist(), first.tolist(), strict=True)) == expected
    assert events.stream_order[later].tolist() == sorted(events.stream_order[later])


def test_the_first_in_the_stream_is_kept_whatever_its_shape_and_layout() -> None:
    """In a batch the group of the first shape comes first, wherever its entries stood in the stream."""
    other = flat(event_id=str(uuid.UUID(int=9)), user_id="other")
    copies = [flat(user_id="main"), [*flat(user_id="odd"), b"x", b""], [b"data", document(user_id="json")]]
    for first, *rest in permutations(copies):
        events = decoded([other, first, *rest])
        found = repeats_of(events.rows)
        assert found is not None
        assert events.entry[found[0]].tolist() == [2, 3]
        assert events.entry[found[1]].tolist() == [1, 1]


def test_the_same_id_at_another_time_is_another_key() -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    events = decoded([flat(time=(start + timedelta(seconds=i % 3)).isoformat()) for i in range(6)])
    found = repeats_of(events.rows)
    assert found is not None
    assert [rows.tolist() for rows in found] == [[3, 4, 5], [0, 1, 2]]
