"""What the tables of the spillway schema refuse."""

from __future__ import annotations

import psycopg
import pytest


@pytest.fixture
def ledger(database: psycopg.Connection) -> psycopg.Connection:
    """Empty tables and two streams."""
    database.execute("INSERT INTO spillway.streams (name, baseline) VALUES ('one', 0), ('two', 0)")
    return database


def enter(
    ledger: psycopg.Connection, name: str, ids: str, counts: tuple[int, int, int, int] = (0, 0, 0, 0), read: int = 0
) -> None:
    """A range of `read` entries. `counts`: rows, inserted, duplicates, quarantined."""
    ledger.execute(
        """INSERT INTO spillway.ledger (stream, ids, loaded_by, rows, inserted, duplicates, quarantined, read)
           SELECT id, %s::numrange, 'test', %s, %s, %s, %s, %s FROM spillway.streams WHERE name = %s""",
        [ids, *counts, read, name],
    )


def recorded_ranges(ledger: psycopg.Connection) -> list[tuple[str, str]]:
    query = "SELECT name, ids::text FROM spillway.ledger JOIN spillway.streams ON id = stream ORDER BY name, ids"
    return ledger.execute(query).fetchall()


@pytest.mark.parametrize("ids", ["[10,20)", "[0,11)", "[19,30)", "[12,13)", "[0,100)", "[19,19]", "(9,11)"])
def test_a_range_that_holds_a_drained_id_is_refused(ledger: psycopg.Connection, ids: str) -> None:
    enter(ledger, "one", "[10,20)")
    with pytest.raises(psycopg.errors.ExclusionViolation) as refused:
        enter(ledger, "one", ids)
    assert refused.value.sqlstate == "23P01"
    assert refused.value.diag.constraint_name == "ledger_no_overlap"
    assert recorded_ranges(ledger) == [("one", "[10,20)")]


def test_neighbours_and_the_same_ids_of_other_streams_are_accepted(ledger: psycopg.Connection) -> None:
    for ids in ("[10,20)", "[20,30)", "[0,10)", f"[{2**64 * 1_700_000_000_000},{2**64 * 1_700_000_000_000 + 1})"):
        enter(ledger, "one", ids)
        enter(ledger, "two", ids)
    assert len(recorded_ranges(ledger)) == 8


def test_the_greatest_ids_of_a_stream_are_distinguished_to_the_last_digit(ledger: psycopg.Connection) -> None:
    end = 2**128
    enter(ledger, "one", f"[{end - 2},{end - 1})")
    enter(ledger, "one", f"[{end - 1},{end})")
    with pytest.raises(psycopg.errors.ExclusionViolation):
        enter(ledger, "one", f"[{end - 1},{end})")


@pytest.mark.parametrize("ids", ["empty", "[1,1)", "(,5)", "[5,)", "(,)"])
def test_a_range_without_an_id_or_without_an_end_is_refused(ledger: psycopg.Connection, ids: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        enter(ledger, "one", ids)
    assert recorded_ranges(ledger) == []


@pytest.mark.parametrize("counts", [(1, 0, 0, 0), (0, 1, 0, 0), (5, 3, 1, 0), (5, 3, 1, 2)])
def test_counts_that_do_not_balance_are_refused(ledger: psycopg.Connection, counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        enter(ledger, "one", "[0,5)", counts)
    assert refused.value.diag.constraint_name == "ledger_balances"
    enter(ledger, "one", "[0,5)", (6, 3, 2, 1), read=2)  # two entries became six rows
    with pytest.raises(psycopg.errors.CheckViolation):
        ledger.execute("UPDATE spillway.ledger SET inserted = inserted + 1")


def test_a_range_of_an_unknown_stream_is_refused(ledger: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        ledger.execute("INSERT INTO spillway.ledger (stream, ids, loaded_by) VALUES (-1, '[0,1)', 'test')")


def test_each_part_of_an_entry_is_quarantined_once(ledger: psycopg.Connection) -> None:
    """Part 0 is the whole entry."""
    statement = (
        "INSERT INTO spillway.quarantine (stream, entry_id, fields, reason, part)"
        " SELECT id, '1-0', '{}', 'no time', %s FROM spillway.streams WHERE name = 'one'"
    )
    for part in (0, 1, 2):
        ledger.execute(statement, [part])
    with pytest.raises(psycopg.errors.UniqueViolation):
        ledger.execute(statement, [2])
    with pytest.raises(psycopg.errors.CheckViolation):
        ledger.execute(statement, [-1])


def test_a_drop_without_its_table_is_refused(ledger: psycopg.Connection) -> None:
    """Rows that one table lost must not explain a loss of another."""
    with pytest.raises(psycopg.errors.NotNullViolation):
        ledger.execute("INSERT INTO spillway.drops (chunk, range_end, dropped_by) VALUES ('c', now(), 'ann')")
