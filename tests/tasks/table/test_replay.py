"""Entries of the quarantine that are replayed into the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import psycopg

from infra.mapping.column_source import ColumnSource
from infra.mapping.stream_mapping import BUILT_IN
from tasks.columns.row_layout import bind
from tasks.table.quarantine import Selection
from tasks.table.redrive import replay, replay_batches
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
