"""Rows are staged and compared correctly if a user adds, retypes, moves or drops columns of `events`."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tasks.backfill.backfill_plan import sample_rate
from tasks.reconcile.compare import compare
from tasks.table.chunks import chunks, open_chunks
from tasks.table.insert import InsertRoute
from tasks.table.quarantine import Selection
from tasks.table.redrive import replay, replay_batches
from tests.support.default_table import default_table
from tests.support.oracle import flat_rows, table_rows
from tests.support.stream_entries import event
from tests.support.user_table import ANY_TIME, STREAM, TABLE_CHANGES, batch_of, layout_of, load, quarantined

Alter = Callable[[str], None]


@pytest.fixture(params=TABLE_CHANGES)
def changed(request: pytest.FixtureRequest, alter: Alter) -> str:
    """The name of the change that was made."""
    alter(TABLE_CHANGES[request.param])
    name: str = request.param
    return name


@pytest.mark.usefixtures("changed")
@pytest.mark.parametrize("route", InsertRoute)
def test_one_duplicate_in_a_batch_is_one_duplicate(database: psycopg.Connection, route: InsertRoute) -> None:
    entries = [event(n) for n in range(1, 8)]
    assert load(database, entries[:3]) == (3, 0, 0)
    assert load(database, [*entries[2:], event(2, user_id="other")], route, first=10) == (4, 1, 1)
    assert table_rows(database) == flat_rows(entries)
    assert {number: kind for number, (kind, _) in quarantined(database).items()} == {15: "conflict"}


@pytest.mark.usefixtures("changed")
def test_reconcile_finds_missing_rows_and_inserts_them(database: psycopg.Connection) -> None:
    entries = [event(n) for n in range(1, 8)]
    load(database, [*entries, entries[0]])
    clean = compare(database, batch_of(database, [*entries, entries[0]]), repair=False)
    assert (clean.compared, clean.counts) == (8, {})
    database.execute("DELETE FROM events WHERE event_id = %s", [entries[2][b"event_id"].decode()])
    found = compare(database, batch_of(database, entries), repair=False)
    assert found.counts == {"missing": 1}
    compare(database, batch_of(database, entries), repair=True)
    assert table_rows(database) == flat_rows(entries)


@pytest.mark.usefixtures("changed")
def test_an_entry_is_redriven(database: psycopg.Connection) -> None:
    entries = [event(1), event(2, time="never"), event(3)]
    assert load(database, entries) == (2, 0, 1)
    (waiting,) = replay_batches(database, Selection())
    when = event(2)[b"time"].decode()
    done = replay(database, waiting, layout_of(database), ANY_TIME, {"time": when}, "test")
    assert (done.tried, done.inserted, done.still_bad) == (1, 1, 0)
    assert table_rows(database) == flat_rows([event(1), event(2), event(3)])


@pytest.mark.hypertables
@pytest.mark.usefixtures("hypertables")
def test_opening_chunks_leaves_no_row(database: psycopg.Connection, changed: str) -> None:
    open_it = [1_600_000_000_000_000]
    open_chunks(database, default_table(database), open_it)
    opened = 0 if changed == "an enum" else 1  # only the user knows a value of it: the load makes the chunk
    assert len(chunks(database, default_table(database))) == opened
    assert table_rows(database) == {}


@pytest.mark.usefixtures("changed")
def test_measuring_the_sample_of_a_backfill_leaves_no_row(database: psycopg.Connection) -> None:
    rate = sample_rate(database, batch_of(database, [event(n) for n in range(1, 9)]))
    assert rate is not None
    assert rate > 0
    assert table_rows(database) == {}
    assert STREAM  # the table is as it was
    assert load(database, [event(1)]) == (1, 0, 0)


@pytest.mark.parametrize("route", InsertRoute)
def test_the_type_of_a_column_may_change_while_a_connection_is_open(
    database: psycopg.Connection, alter: Alter, route: InsertRoute
) -> None:
    entries = [event(n) for n in range(1, 5)]
    load(database, entries[:2], route)
    alter("ALTER TABLE events ALTER COLUMN user_id TYPE varchar(6), ADD COLUMN place int NOT NULL DEFAULT 0")
    long = event(9, user_id="much too long")
    assert load(database, [*entries[1:], long], route, first=10) == (2, 1, 1)
    assert table_rows(database) == flat_rows(entries)
    assert list(quarantined(database)) == [13]
