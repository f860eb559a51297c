"""The upgrade to version 9 of the schema: streams and drops have a table, and ranges have rows."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from infra.schema.migrate import apply_schema
from infra.schema.scripts import scripts
from infra.settings import Settings
from infra.tables.read_table import default_table_name, read_table
from tests.support.schema_releases import PREVIOUS_ROWS

VERSION_8 = 10  # scripts: the preamble, events, versions 1 to 8


def rows_of_version_8(url: str, events: str = "public") -> None:
    """What a drain of the release before streams had tables left."""
    apply_schema(url, scripts(sql.Identifier(events, "events"))[:VERSION_8])
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("SET LOCAL search_path = {}, public").format(sql.Identifier(events)))
        connection.execute(PREVIOUS_ROWS.encode())


@pytest.mark.parametrize("events", ["public", 'My "own" 5%'])
def test_streams_and_drops_of_an_earlier_release_are_those_of_events(
    empty_database: str, configure: Callable[..., Settings], events: str
) -> None:
    """The name is the one that every later release finds the table by. A range has as many rows as entries."""
    configure(events_schema=events)
    rows_of_version_8(empty_database, events)
    apply_schema(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        name = default_table_name()
        assert read_table(connection, name).regclass == name
        for table in ("streams", "drops"):
            assert set(connection.execute(f'SELECT "table" FROM spillway.{table}'.encode())) == {(name,)}
        assert connection.execute("SELECT read, rows FROM spillway.ledger ORDER BY ids").fetchall() == [(2, 2), (2, 2)]
        assert connection.execute("SELECT entry_id, part FROM spillway.quarantine").fetchall() == [("0-30", 0)]


def test_a_stream_without_a_table_gets_none_when_the_schema_is_applied_again(empty_database: str) -> None:
    """Only an upgrade from an earlier release knows that its rows went into events."""
    apply_schema(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("INSERT INTO spillway.streams (name, baseline) VALUES ('new', 0)")
        apply_schema(empty_database)
        assert connection.execute('SELECT "table" FROM spillway.streams').fetchall() == [(None,)]


@pytest.mark.parametrize("valid", [True, False])
def test_an_upgrade_keeps_a_wrong_count_of_an_earlier_release(empty_database: str, valid: bool) -> None:
    """The check of counts is not applied to rows that it has never applied to, and afterwards it is as it was."""
    rows_of_version_8(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        if not valid:
            connection.execute(
                "ALTER TABLE spillway.ledger DROP CONSTRAINT ledger_counts; UPDATE spillway.ledger SET inserted = 4,"
                " duplicates = -2, quarantined = 0"
            )
        apply_schema(empty_database)
        found = connection.execute("SELECT rows, duplicates < 0 FROM spillway.ledger").fetchall()
        assert found == [(2, not valid)] * 2
        query = "SELECT convalidated FROM pg_constraint WHERE conname = 'ledger_counts'"
        assert connection.execute(query).fetchall() == [(valid,)]
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("UPDATE spillway.ledger SET bytes = -1")
