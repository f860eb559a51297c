"""A row that a trigger changes counts as inserted, and the same entry again is a duplicate; no count is below zero."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from infra.schema.migrate import apply_schema
from tasks.reconcile.compare import compare
from tasks.table.insert import InsertRoute
from tests.support.servers import Servers
from tests.support.stream_entries import event
from tests.support.triggers import trigger_sql
from tests.support.user_table import batch_of, load, quarantined

Alter = Callable[[str], None]
ENTRIES = [event(n, user_id=f"User-{n}") for n in range(1, 6)]
# What a trigger does, and a query that is true for the rows that it makes of the entries.
CHANGING = {
    "the user": ("NEW.user_id := lower(NEW.user_id);", "user_id LIKE 'user-_'"),
    "the properties": ("NEW.properties := NEW.properties || '{\"seen\": true}';", "properties ? 'seen'"),
    "the id": ("NEW.event_id := md5(NEW.event_id::text)::uuid;", "event_id > '00000000-0000-0000-0000-0000000000ff'"),
    "the time": ("NEW.time := date_trunc('hour', NEW.time);", "time = '2026-11-20 10:00Z'"),
}


@pytest.mark.parametrize("route", InsertRoute)
@pytest.mark.parametrize(("body", "made"), CHANGING.values(), ids=CHANGING)
def test_an_entry_that_a_trigger_changed_is_a_duplicate_when_it_comes_again(
    database: psycopg.Connection, alter: Alter, body: str, made: str, route: InsertRoute
) -> None:
    alter(trigger_sql(body))
    other = event(3, event_type="other")
    assert load(database, [*ENTRIES, other, ENTRIES[0]], route) == (5, 1, 1)
    assert load(database, [*ENTRIES[1:], event(9, user_id="User-9")], route, first=20) == (1, 4, 0)
    assert database.execute(f"SELECT count(*), count(*) FILTER (WHERE {made}) FROM events").fetchall() == [(6, 6)]
    assert {number: kind for number, (kind, _) in quarantined(database).items()} == {6: "conflict"}
    found = compare(database, batch_of(database, ENTRIES), repair=True)
    assert (found.counts, found.repaired) == ({}, 0)


@pytest.mark.hypertables
@pytest.mark.usefixtures("hypertables")
def test_a_row_that_a_trigger_moves_out_of_its_chunk_is_quarantined(database: psycopg.Connection, alter: Alter) -> None:
    alter(trigger_sql("IF NEW.user_id = 'User-3' THEN NEW.time := NEW.time - interval '1 year'; END IF;"))
    assert load(database, ENTRIES) == (4, 0, 1)
    assert list(quarantined(database)) == [3]


def test_what_the_triggers_do_while_rows_are_compared_is_undone(database: psycopg.Connection, alter: Alter) -> None:
    alter("CREATE TABLE users.seen (id uuid)")
    alter(trigger_sql("INSERT INTO users.seen VALUES (NEW.event_id);"))
    load(database, ENTRIES[:2])
    before = database.execute("SELECT count(*) FROM users.seen").fetchall()
    compare(database, batch_of(database, ENTRIES[:2]), repair=False)
    assert database.execute("SELECT count(*) FROM users.seen").fetchall() == before


@pytest.mark.parametrize("column", ["inserted", "duplicates", "quarantined"])
def test_the_ledger_refuses_negative_counts(database: psycopg.Connection, alter: Alter, column: str) -> None:
    other = "duplicates" if column == "inserted" else "inserted"
    query = f"INSERT INTO spillway.ledger (stream, ids, loaded_by, {column}, {other}) SELECT id, '[0,9)', 'x', -3, 3 FROM spillway.streams"  # noqa: E501
    with pytest.raises(psycopg.errors.CheckViolation, match="ledger_counts"):
        database.execute(query)


def test_the_schema_can_be_applied_to_a_ledger_with_negative_counts(
    servers: Servers, database: psycopg.Connection, alter: Alter
) -> None:
    """An older version wrote them. They stay, and new ones are rejected."""
    row = (
        "INSERT INTO spillway.ledger (stream, ids, loaded_by, inserted, duplicates)"
        " SELECT id, {}, 'x', 3, -3 FROM spillway.streams"
    )
    database.execute("ALTER TABLE spillway.ledger DROP CONSTRAINT ledger_counts")
    database.execute(row.format("'[0,9)'").encode())
    apply_schema(servers.settings.database)
    with pytest.raises(psycopg.errors.CheckViolation):
        database.execute(row.format("'[9,12)'").encode())
    database.execute("DELETE FROM spillway.ledger")
    apply_schema(servers.settings.database)
    validated = "SELECT convalidated FROM pg_constraint WHERE conname = 'ledger_counts'"
    assert database.execute(validated).fetchall() == [(True,)]
