"""Archiving, dropping and restoring a table with extra columns preserves every value of every column, to the byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import redis

from flows.backfill import backfill
from flows.drain import drain
from flows.maintain import maintain
from flows.reconcile import reconcile
from flows.redrive import redrive
from infra.errors.exceptions import SpillwayError, Terminal, WrongUse
from infra.producers.send import send
from infra.settings import Settings
from tests.support.archives import THURSDAY, chunks, compress, insert_events, plain_events, rows_in_order
from tests.support.archives import event as event_row
from tests.support.results import backfill_counts
from tests.support.servers import Servers
from tests.support.stream_entries import event
from tests.support.triggers import trigger_sql
from tests.support.user_columns import COLUMNS, add_columns, dump, insert_weather

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("prefect_server", "hypertables")]

ROWS = 2_000
FORMAT_1 = Path(__file__).parents[1] / "tasks" / "archive" / "format_1"
Alter = Callable[[str], None]
Configure = Callable[..., Settings]


@dataclass(frozen=True)
class ExtendedTable:
    """The table `events` with extra columns, and a folder for its archives."""

    database: psycopg.Connection
    alter: Alter
    configure: Configure
    folder: Path

    def archive(self) -> int:
        """Archive and drop everything that is older than a year. Returns the number of dropped rows."""
        self.configure(keep="365d", retention="archive", archive_url=self.folder, compress_after="")
        return sum(one["rows"] for one in maintain()["dropped"])

    def rows(self) -> list[bytes]:
        """Every row as COPY writes it, sorted."""
        return dump(self.database)


@pytest.fixture
def table(alter: Alter, database: psycopg.Connection, configure: Configure, tmp_path: Path) -> ExtendedTable:
    return ExtendedTable(database, alter, configure, tmp_path)


def test_every_column_of_every_row_comes_back_to_the_byte(table: ExtendedTable, servers: Servers) -> None:
    table.alter(add_columns())
    insert_weather(table.database, ROWS)
    if servers.edition == "Community":
        table.database.execute("ALTER TABLE events SET (timescaledb.compress, timescaledb.compress_orderby = 'time')")
        for chunk in chunks(table.database)[::2]:
            compress(table.database, chunk)
    before = table.rows()
    assert len(before) == ROWS
    assert table.archive() == ROWS
    assert table.rows() == []
    assert backfill(archive=True, expired="load", dry_run=True)["estimated_seconds"] is not None
    result = backfill(archive=True, expired="load")
    assert (backfill_counts(result), result["warnings"]) == ((ROWS, ROWS, 0, 0), [])
    assert table.rows() == before
    again = backfill(archive=True, expired="load", again=True)
    assert backfill_counts(again) == (ROWS, 0, ROWS, 0)
    assert table.rows() == before
    # Rows with existing keys go through the temporary table.
    table.database.execute("DELETE FROM events WHERE seq % 3 = 0")
    third = backfill(archive=True, expired="load", again=True)
    assert (third["inserted"], third["duplicates"], third["quarantined"]) == (ROWS // 3, ROWS - ROWS // 3, 0)
    assert table.rows() == before
    assert len(COLUMNS) > 50


@pytest.fixture
def tenants(table: ExtendedTable) -> list[bytes]:
    """The rows of a table of 100 events in one chunk, with extra columns whose values differ from their defaults."""
    insert_events(table.database, plain_events(100))
    table.alter("""CREATE TYPE users.mood AS ENUM ('sad', 'ok');
             ALTER TABLE events ADD COLUMN tenant text NOT NULL DEFAULT 'acme', ADD COLUMN n int DEFAULT -1,
                                ADD COLUMN mood users.mood DEFAULT 'ok';
             UPDATE events SET tenant = user_id || '-private';
             UPDATE events SET n = CASE WHEN event_type = 'type-1' THEN NULL ELSE 7 END""")
    return table.rows()


def test_columns_added_since_an_archive_of_format_1_get_their_defaults(table: ExtendedTable) -> None:
    """The archive was written by the release that archived only the columns of schema.sql."""
    shutil.copytree(FORMAT_1, table.folder / "archive")
    table.alter(
        "ALTER TABLE events ADD COLUMN tenant text NOT NULL DEFAULT 'acme',"
        " ADD COLUMN n bigint GENERATED ALWAYS AS IDENTITY,"
        " ADD COLUMN twice text GENERATED ALWAYS AS (user_id || user_id) STORED"
    )
    table.configure(archive_url=table.folder / "archive")
    result = backfill(archive=True)
    assert backfill_counts(result) == (6, 6, 0, 0)
    assert result["warnings"] == [
        'restore: the column "n" was added after 1 of 1 archives were made: their 6 rows get its default',
        'restore: the column "tenant" was added after 1 of 1 archives were made: their 6 rows get its default',
    ]
    kinds, documents = ("click", "", "é\t\\\n"), (None, "null", '{"a": 1.50}')
    assert rows_in_order(table.database) == [
        event_row(n, THURSDAY + timedelta(hours=n), kinds[n % 3], f"user-{n}", documents[n % 3]) for n in range(6)
    ]
    found = table.database.execute("SELECT DISTINCT tenant, twice = user_id || user_id FROM events").fetchall()
    assert found == [("acme", True)]


def test_a_dropped_column_is_refused_until_it_is_added_again_or_left_out(
    table: ExtendedTable, tenants: list[bytes]
) -> None:
    assert table.archive() == 100
    table.alter("ALTER TABLE events DROP COLUMN tenant")
    with pytest.raises(Terminal, match=r'the archived columns "tenant" text .*nothing was loaded.*--without tenant'):
        backfill(archive=True, expired="load")
    assert table.rows() == []
    with pytest.raises(SpillwayError, match="no archive with it: 'tennant'"):
        backfill(archive=True, expired="load", without=["tennant"])
    result = backfill(archive=True, expired="load", without=["tenant"])
    assert backfill_counts(result) == (100, 100, 0, 0)
    assert result["warnings"] == ['restore: the archived values of the column "tenant" are left out, as asked']
    assert [line.split(b"\t")[5] for line in table.rows()] == [line.split(b"\t")[6] for line in tenants]
    table.database.execute("TRUNCATE events")
    table.alter("ALTER TABLE events DROP COLUMN n, DROP COLUMN mood, ADD COLUMN tenant text NOT NULL DEFAULT 'acme'")
    table.alter("ALTER TABLE events ADD COLUMN n int DEFAULT -1, ADD COLUMN mood users.mood DEFAULT 'sad'")
    backfill(archive=True, expired="load", again=True)
    assert table.rows() == tenants


def test_a_retyped_column_is_cast_if_no_value_changes_and_refused_otherwise(
    table: ExtendedTable, tenants: list[bytes]
) -> None:
    assert table.archive() == 100
    for kind, found in (("varchar(3)", "values that it would change"), ("int", r"that it rejects \[22P02\]")):
        table.alter(f"ALTER TABLE events DROP COLUMN tenant, ADD COLUMN tenant {kind}")
        with pytest.raises(Terminal, match=rf'"tenant" was archived as text and is .*{found}; nothing was') as error:
            backfill(archive=True, expired="load")
        assert "private" not in str(error.value)
        assert table.rows() == []
    table.alter("ALTER TABLE events DROP COLUMN tenant, ADD COLUMN tenant varchar(40) NOT NULL DEFAULT 'acme';"
          "ALTER TABLE events DROP COLUMN n, ADD COLUMN n numeric DEFAULT -1;"
          "ALTER TABLE events DROP COLUMN mood, ADD COLUMN mood text; DROP TYPE users.mood")  # fmt: skip
    assert backfill_counts(backfill(archive=True, expired="load")) == (100, 100, 0, 0)
    assert table.rows() == tenants


@pytest.mark.parametrize("trigger", [False, True])
def test_an_existing_row_with_another_value_in_an_extra_column_is_a_conflict(
    trigger: bool, table: ExtendedTable, tenants: list[bytes]
) -> None:
    if trigger:
        table.alter(trigger_sql("RETURN NEW;"))
    assert table.archive() == 100
    backfill(archive=True, expired="load")
    table.database.execute("UPDATE events SET tenant = 'other' WHERE user_id = 'user-7'")
    result = backfill(archive=True, expired="load", again=True)
    assert backfill_counts(result) == (100, 0, 98, 2)
    found = table.database.execute("SELECT kind, field, reason FROM spillway.quarantine").fetchall()
    assert {(kind, field) for kind, field, _ in found} == {("conflict", "tenant")}
    assert all("another tenant" in reason for *_, reason in found)


def test_a_restored_row_that_the_table_rejects_keeps_all_its_values_for_the_redrive(
    table: ExtendedTable, tenants: list[bytes]
) -> None:
    assert table.archive() == 100
    table.alter("ALTER TABLE events ADD CONSTRAINT no_seven CHECK (tenant <> 'user-7-private')")
    assert backfill_counts(backfill(archive=True, expired="load")) == (100, 98, 0, 2)
    table.alter("ALTER TABLE events DROP CONSTRAINT no_seven")
    assert redrive()["inserted"] == 2
    assert table.rows() == tenants


def test_drained_archived_and_restored_rows_reconcile(
    table: ExtendedTable, redis_client: redis.Redis, stream: str
) -> None:
    entries = [event(n) | {b"time": f"{THURSDAY.date()}T00:{n // 60:02}:{n % 60:02}Z".encode()} for n in range(300)]
    send(redis_client, stream, entries)
    drain(stream)
    table.alter("""ALTER TABLE events ADD COLUMN "own %s" json; UPDATE events SET "own %s" = '[1,  2]'""")
    table.database.execute("DELETE FROM spillway.streams WHERE name <> %s", [stream])
    before = table.rows()
    assert table.archive() == 300
    result = reconcile("*", deep=True)
    assert (result["compared"], result["dropped"]) == (300, 300)
    backfill(archive=True, expired="load")
    assert table.rows() == before
    result = reconcile("*", deep=True)
    assert (result["compared"], result["dropped"]) == (600, 0)  # the stream, and the restored file
    # The restored file is compared and repaired with all columns.
    table.alter(
        """UPDATE events SET "own %s" = '[1, 2]' WHERE event_id = (SELECT min(event_id::text)::uuid FROM events)"""
    )
    (found,) = reconcile("*", deep=True, fail=False)["findings"]
    assert found["detail"] == "its row has another own %s"
    table.alter("""DELETE FROM events WHERE "own %s"::text = '[1, 2]'""")
    assert reconcile("*", deep=True, repair=True, fail=False)["repaired"] > 0
    assert table.rows() == before


def test_loading_an_archive_as_an_ordinary_file_warns_of_the_columns_that_it_leaves_out(
    table: ExtendedTable, tenants: list[bytes]
) -> None:
    assert table.archive() == 100
    result = backfill(str(next(table.folder.rglob("*.parquet"))), expired="load")
    (warning,) = result["warnings"]
    assert "its columns 'tenant', 'n', 'mood' are not loaded; restore them with --archive" in warning
    assert {line.split(b"\t")[5] for line in table.rows()} == {b"acme"}
    with pytest.raises(WrongUse, match="without applies only to columns of the archive"):
        backfill(str(table.folder), without=["tenant"])
