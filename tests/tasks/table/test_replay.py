"""Entries of the quarantine that are replayed into the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest

from infra.mapping.column_source import ColumnSource
from infra.mapping.stream_mapping import BUILT_IN
from tasks.columns.row_layout import bind
from tasks.table.quarantine import Selection
from tasks.table.redrive import replay, replay_batches
from tests.support.oracle import flat_rows, table_rows
from tests.support.stream_entries import event
from tests.support.user_table import ANY_TIME, layout_of, load

Alter = Callable[[str], None]


def test_a_replayed_entry_keeps_its_own_id_for_the_columns_that_are_filled_from_it(
    database: psycopg.Connection, alter: Alter
) -> None:
    alter("ALTER TABLE events ADD COLUMN entry text, ADD COLUMN arrived timestamptz")
    bad = [event(1, time="never"), {**event(2, time="never"), b"shape": b"other"}, event(3, time="never")]
    assert load(database, bad, first=7) == (0, 0, 3)
    sources = {"entry": ColumnSource(whole="entry_id"), "arrived": ColumnSource(whole="entry_time")}
    layout = bind(replace(BUILT_IN, columns=sources), layout_of(database).table)
    (waiting,) = replay_batches(database, Selection())
    still = replay(database, waiting, layout, ANY_TIME, {"user_id": "x"}, "test")
    assert (still.tried, still.inserted, still.still_bad) == (3, 0, 3)
    done = replay(database, waiting, layout, ANY_TIME, {"time": "2026-01-01"}, "test")
    assert (done.tried, done.inserted, done.still_bad) == (3, 3, 0)
    rows = database.execute("SELECT event_id::text, entry, extract(epoch FROM arrived) * 1000 FROM events").fetchall()
    assert sorted(rows) == sorted(
        (entry[b"event_id"].decode(), f"{number}-0", number) for number, entry in enumerate(bad, 7)
    )


@pytest.mark.usefixtures("alter")
def test_what_was_replayed_stays_on_record_byte_for_byte_and_a_bad_entry_waits_on_with_its_new_reason(
    database: psycopg.Connection,
) -> None:
    odd = {b"": b"", b"\xff.\0\"'\\": bytes(range(256))}
    bad = [event(1, time="never") | odd, event(2, time="never", user_id=""), event(3, time="never")]
    assert load(database, bad) == (0, 0, 3)
    (waiting,) = replay_batches(database, Selection())
    done = replay(database, waiting, layout_of(database), ANY_TIME, {"time": "2026-01-01"}, "test")
    assert (done.tried, done.inserted, done.duplicates, done.still_bad) == (3, 2, 0, 1)
    query = """SELECT split_part(entry_id, '-', 1)::int, fields, replayed, outcome, resolved_by, resolved_at IS NULL,
                      field, reason FROM spillway.quarantine ORDER BY 1"""
    rows = {number: row for number, *row in database.execute(query)}
    for number, entry in enumerate(bad, 1):
        assert rows[number][0] == [part for pair in entry.items() for part in pair]
    for number in (1, 3):
        edited = {**bad[number - 1], b"time": b"2026-01-01"}
        assert rows[number][1:5] == [[part for pair in edited.items() for part in pair], "redriven", "test", False]
    assert rows[2][1:] == [None, None, None, True, "user_id", "missing field user_id"]
    again = replay(database, waiting, layout_of(database), ANY_TIME, {"time": "2026-01-01", "user_id": "x"}, "second")
    assert (again.tried, again.inserted, again.still_bad) == (1, 1, 0)
    assert database.execute("SELECT DISTINCT outcome FROM spillway.quarantine").fetchall() == [("redriven",)]
    fixed = [event(number, time="2026-01-01", **({"user_id": "x"} if number == 2 else {})) for number in (1, 2, 3)]
    assert table_rows(database) == flat_rows(fixed)
