"""Chunks of a user's table of every type are archived, dropped and restored: the same table to the byte."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest

from flows.backfill import backfill
from flows.maintain import maintain
from infra.errors.exceptions import Terminal
from infra.settings import Settings
from infra.tables.read_table import read_table
from infra.tables.table import Table
from tests.support.other_tables import START, TIMES, dump
from tests.support.results import backfill_counts
from tests.support.user_columns import COLUMNS, TYPES, has_xml

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("prefect_server", "hypertables")]

Alter = Callable[[str], None]
Configure = Callable[..., Settings]
MakeTable = Callable[[str, bool], Table]
NAME = 'users."Alle Typen"'
ROWS = 90  # four a day
_OWN = ("identity bigint GENERATED ALWAYS AS IDENTITY", "total numeric(12,2) GENERATED ALWAYS AS (amount * 2) STORED")


@pytest.fixture
def maintained(configure: Configure, tmp_path: Path) -> None:
    """Chunks of the table that are older than 30 days are archived and dropped."""
    path = tmp_path / "spillway.toml"
    path.write_text(
        f'[tables.\'{NAME}\']\nkeep = "30d"\nretention = "archive"\narchive_url = "{tmp_path / "archive"}"\n'
    )
    configure(mappings=path)


@pytest.fixture
def make(alter: Alter, database: psycopg.Connection) -> MakeTable:
    """Make the table with a time of some type, with or without a key, and rows with every value of every column."""

    def make_it(time: str, key: bool) -> Table:
        alter(TYPES)
        columns = ", ".join(f"{_quoted(name)} {kind}" for name, (kind, _) in COLUMNS.items())
        own = ", ".join([*_OWN, *(['PRIMARY KEY (n, "time of")'] if key else [])])
        alter(f'CREATE TABLE {NAME} (n int, "time of" {time} NOT NULL, dropped text, {columns}, {own})')
        alter(f"ALTER TABLE {NAME} DROP COLUMN dropped")
        alter(f"SELECT create_hypertable('{NAME}', by_range('time of', interval '7 days'))")
        insert(database, range(ROWS))
        return read_table(database, NAME)

    return make_it


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def insert(connection: psycopg.Connection, numbers: Sequence[int]) -> None:
    connection.execute("SET TimeZone = 'UTC'")
    names = ["n", "time of", *COLUMNS]
    xml = has_xml(connection)
    cycles = [[*found, None] if name != "xml_of" or xml else [None] for name, (_, found) in COLUMNS.items()]
    required = {name: found[0] for name, (kind, found) in COLUMNS.items() if "NOT NULL" in kind}
    statement = f"COPY {NAME} ({', '.join(map(_quoted, names))}) FROM STDIN"
    with connection.cursor().copy(statement.encode()) as copy:
        for n in numbers:
            values = [cycle[(n + shift) % len(cycle)] for shift, cycle in enumerate(cycles)]
            given = [required.get(name) if v is None else v for name, v in zip(COLUMNS, values, strict=True)]
            copy.write_row((n, (START + timedelta(hours=6 * n)).replace(tzinfo=None).isoformat(), *given))


@pytest.mark.parametrize(("time", "key"), [*itertools.product(TIMES, [True]), ("timestamp", False), ("date", False)])
def test_a_table_of_every_type_comes_back_to_the_byte(
    time: str,
    key: bool,
    make: MakeTable,
    maintained: None,
    database: psycopg.Connection,
    tmp_path: Path,
) -> None:
    table = make(time, key)
    before = dump(database, table)
    assert len(before) == ROWS
    found = maintain()
    (report,) = [one for one in found["tables"] if one["table"] == "users.Alle Typen"]
    assert (found["ok"], sum(one["rows"] for one in report["dropped"]), dump(database, table)) == (True, ROWS, [])
    assert found["dropped"] == []
    files = sorted((tmp_path / "archive").rglob("*.parquet"))
    assert {path.relative_to(tmp_path / "archive").parts[0] for path in files} == {"users.Alle%20Typen"}
    schema = pq.read_schema(files[0])
    assert (str(schema.field("double8").type), str(schema.field("amount").type)) == ("double", "decimal128(10, 2)")

    result = backfill(archive=True, table=NAME, expired="load")
    assert backfill_counts(result) == (ROWS, ROWS, 0, 0)
    assert dump(database, table) == before
    again = backfill(archive=True, table=NAME, expired="load")
    assert backfill_counts(again) == (0, 0, 0, 0)
    assert dump(database, table) == before
    maintain()
    assert dump(database, table) == []


def test_rows_that_are_still_in_a_table_without_a_key_are_not_restored_twice(
    make: MakeTable, database: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    """Nothing but the name of the chunk can tell. Of two archives of one chunk, the later is restored."""
    configure(archive_after="1d", archive_url=tmp_path / "archive")
    table = make("timestamp", False)
    before = dump(database, table)
    assert len(maintain()["tables"]) == 1  # no stream and no section names the table
    database.execute("INSERT INTO spillway.streams (name, baseline, \"table\") VALUES ('s', 0, %s)", [table.regclass])
    (report,) = [one for one in maintain()["tables"] if one["table"] == "users.Alle Typen"]
    assert len(report["archived"]) == 4
    result = backfill(archive=True, table=NAME)
    assert (backfill_counts(result), dump(database, table)) == ((0, 0, 0, 0), before)
    assert any("are still in the table" in warning for warning in result["warnings"])
    database.execute("SELECT drop_chunks(%s::regclass, older_than => '2024-01-11'::timestamp)", [table.regclass])
    late = dump(database, table)
    assert len(late) == ROWS - 28
    insert(database, [1])  # a late row makes the chunk again
    result = backfill(archive=True, table=NAME)
    assert backfill_counts(result) == (28, 28, 0, 0)
    assert len(dump(database, table)) == ROWS + 1
    database.execute(f"DELETE FROM {NAME} WHERE n = 30")  # so that the next archive does not contain the last one
    maintain(fail=False)
    assert len(list((tmp_path / "archive" / "users.Alle%20Typen" / "_manifests").iterdir())) == 5
    database.execute("SELECT drop_chunks(%s::regclass, older_than => '2024-01-18'::timestamp)", [table.regclass])
    result = backfill(archive=True, table=NAME, again=True)  # some were restored before
    assert (result["inserted"], len(dump(database, table))) == (29 + 27, ROWS)
    assert any("is a later archive of the same chunk" in warning for warning in result["warnings"])


def test_columns_added_and_dropped_between_archive_and_restore_are_reported(
    make: MakeTable, maintained: None, database: psycopg.Connection
) -> None:
    table = make("date", True)
    maintain()
    database.execute(f"ALTER TABLE {NAME} DROP COLUMN mood, ADD COLUMN later int DEFAULT 7")
    with pytest.raises(
        Terminal, match=r"expected the archived columns .mood. users\.mood in users\.Alle Typen, found none"
    ):
        backfill(archive=True, table=NAME, expired="load")
    assert dump(database, table) == []
    with pytest.raises(Terminal, match="found a column that every row needs: 'n'"):
        backfill(archive=True, table=NAME, expired="load", without=["n"])
    result = backfill(archive=True, table=NAME, expired="load", without=["mood"])
    assert backfill_counts(result) == (ROWS, ROWS, 0, 0)
    assert any("later was added after 4 of 4 archives" in warning.replace('"', "") for warning in result["warnings"])
    assert database.execute(f"SELECT DISTINCT later FROM {NAME}").fetchall() == [(7,)]
