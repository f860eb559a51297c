"""Archive → drop → restore of a table with columns of the user's own: every value of every column, to the byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable
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

pytestmark = pytest.mark.usefixtures("prefect_server")

ROWS = 2_000
FORMAT_1 = Path(__file__).parents[1] / "tasks" / "archive" / "format_1"
Alter = Callable[[str], None]
Configure = Callable[..., Settings]


def archive(configure: Configure, folder: Path) -> int:
    """Archive and drop what is older than a year; returns how many rows are gone."""
    configure(keep="365d", retention="archive", archive_url=folder, compress_after="")
    return sum(one["rows"] for one in maintain()["dropped"])


def test_every_column_of_every_row_comes_back_to_the_byte(
    alter: Alter,
    servers: Servers,
    database: psycopg.Connection,
    configure: Configure,
    tmp_path: Path,
) -> None:
    alter(add_columns())
    insert_weather(database, ROWS)
    if servers.edition == "Community":
        database.execute("ALTER TABLE events SET (timescaledb.compress, timescaledb.compress_orderby = 'time')")
        for chunk in chunks(database)[::2]:
            compress(database, chunk)
    before = dump(database)
    assert len(before) == ROWS
    assert archive(configure, tmp_path) == ROWS
    assert dump(database) == []
    assert backfill(archive=True, expired="load", dry_run=True)["estimated_seconds"] is not None
    result = backfill(archive=True, expired="load")
    assert (backfill_counts(result), result["warnings"]) == ((ROWS, ROWS, 0, 0), [])
    assert dump(database) == before
    again = backfill(archive=True, expired="load", again=True)
    assert backfill_counts(again) == (ROWS, 0, ROWS, 0)
    assert dump(database) == before
    # Among rows that are there they go through the temporary table.
    database.execute("DELETE FROM events WHERE seq % 3 = 0")
    third = backfill(archive=True, expired="load", again=True)
    assert (third["inserted"], third["duplicates"], third["quarantined"]) == (ROWS // 3, ROWS - ROWS // 3, 0)
    assert dump(database) == before
    assert len(COLUMNS) > 50


@pytest.fixture
def tenants(alter: Alter, database: psycopg.Connection) -> list[bytes]:
    """100 events of one chunk with a column of their own, which is not its default: the table as it is then."""
    insert_events(database, plain_events(100))
    alter("""CREATE TYPE users.mood AS ENUM ('sad', 'ok');
             ALTER TABLE events ADD COLUMN tenant text NOT NULL DEFAULT 'acme', ADD COLUMN n int DEFAULT -1,
                                ADD COLUMN mood users.mood DEFAULT 'ok';
             UPDATE events SET tenant = user_id || '-private';
             UPDATE events SET n = CASE WHEN event_type = 'type-1' THEN NULL ELSE 7 END""")
    return dump(database)


def test_an_archive_of_an_earlier_version_goes_into_a_table_with_more_columns_which_get_their_defaults(
    alter: Alter, database: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    """Made by the code before archives had more than the columns of schema.sql."""
    shutil.copytree(FORMAT_1, tmp_path / "archive")
    alter("ALTER TABLE events ADD COLUMN tenant text NOT NULL DEFAULT 'acme', ADD COLUMN n bigint GENERATED ALWAYS AS"
          " IDENTITY, ADD COLUMN twice text GENERATED ALWAYS AS (user_id || user_id) STORED")  # fmt: skip
    configure(archive_url=tmp_path / "archive")
    result = backfill(archive=True)
    assert backfill_counts(result) == (6, 6, 0, 0)
    assert result["warnings"] == [
        'restore: the column "n" was added after 1 of 1 archives were made: their 6 rows get its default',
        'restore: the column "tenant" was added after 1 of 1 archives were made: their 6 rows get its default',
    ]
    kinds, documents = ("click", "", "é\t\\\n"), (None, "null", '{"a": 1.50}')
    assert rows_in_order(database) == [
        event_row(n, THURSDAY + timedelta(hours=n), kinds[n % 3], f"user-{n}", documents[n % 3]) for n in range(6)
    ]
    found = database.execute("SELECT DISTINCT tenant, twice = user_id || user_id FROM events").fetchall()
    assert found == [("acme", True)]


def test_a_column_that_is_gone_is_refused_until_it_is_back_or_left_out(
    tenants: list[bytes],
    alter: Alter,
    database: psycopg.Connection,
    configure: Configure,
    tmp_path: Path,
) -> None:
    assert archive(configure, tmp_path) == 100
    alter("ALTER TABLE events DROP COLUMN tenant")
    with pytest.raises(Terminal, match=r'the archived columns "tenant" text .*nothing was loaded.*--without tenant'):
        backfill(archive=True, expired="load")
    assert dump(database) == []
    with pytest.raises(SpillwayError, match="no archive with it: 'tennant'"):
        backfill(archive=True, expired="load", without=["tennant"])
    result = backfill(archive=True, expired="load", without=["tenant"])
    assert backfill_counts(result) == (100, 100, 0, 0)
    assert result["warnings"] == ['restore: the archived values of the column "tenant" are left out, as asked']
    assert [line.split(b"\t")[5] for line in dump(database)] == [line.split(b"\t")[6] for line in tenants]
    database.execute("TRUNCATE events")
    alter("ALTER TABLE events DROP COLUMN n, DROP COLUMN mood, ADD COLUMN tenant text NOT NULL DEFAULT 'acme'")
    alter("ALTER TABLE events ADD COLUMN n int DEFAULT -1, ADD COLUMN mood users.mood DEFAULT 'sad'")
    backfill(archive=True, expired="load", again=True)
    assert dump(database) == tenants


def test_a_retyped_column_is_cast_if_no_value_changes_and_refused_otherwise(
    tenants: list[bytes],
    alter: Alter,
    database: psycopg.Connection,
    configure: Configure,
    tmp_path: Path,
) -> None:
    assert archive(configure, tmp_path) == 100
    for kind, found in (("varchar(3)", "values that it would change"), ("int", r"none of it \[22P02\]")):
        alter(f"ALTER TABLE events DROP COLUMN tenant, ADD COLUMN tenant {kind}")
        with pytest.raises(Terminal, match=rf'"tenant" was archived as text and is .*{found}; nothing was') as error:
            backfill(archive=True, expired="load")
        assert "private" not in str(error.value)
        assert dump(database) == []
    alter("ALTER TABLE events DROP COLUMN tenant, ADD COLUMN tenant varchar(40) NOT NULL DEFAULT 'acme';"
          "ALTER TABLE events DROP COLUMN n, ADD COLUMN n numeric DEFAULT -1;"
          "ALTER TABLE events DROP COLUMN mood, ADD COLUMN mood text; DROP TYPE users.mood")  # fmt: skip
    assert backfill_counts(backfill(archive=True, expired="load")) == (100, 100, 0, 0)
    assert dump(database) == tenants


@pytest.mark.parametrize("trigger", [False, True])
def test_a_row_that_is_there_with_another_value_of_a_users_column_is_a_conflict(
    trigger: bool,
    tenants: list[bytes],
    alter: Alter,
    database: psycopg.Connection,
    configure: Configure,
    tmp_path: Path,
) -> None:
    if trigger:
        alter(trigger_sql("RETURN NEW;"))
    assert archive(configure, tmp_path) == 100
    backfill(archive=True, expired="load")
    database.execute("UPDATE events SET tenant = 'other' WHERE user_id = 'user-7'")
    result = backfill(archive=True, expired="load", again=True)
    assert backfill_counts(result) == (100, 0, 98, 2)
    found = database.execute("SELECT kind, field, reason FROM spillway.quarantine").fetchall()
    assert {(kind, field) for kind, field, _ in found} == {("conflict", "tenant")}
    assert all("another tenant" in reason for *_, reason in found)


def test_a_restored_row_that_the_table_rejects_keeps_its_values_until_it_is_redriven(
    tenants: list[bytes],
    alter: Alter,
    database: psycopg.Connection,
    configure: Configure,
    tmp_path: Path,
) -> None:
    assert archive(configure, tmp_path) == 100
    alter("ALTER TABLE events ADD CONSTRAINT no_seven CHECK (tenant <> 'user-7-private')")
    assert backfill_counts(backfill(archive=True, expired="load")) == (100, 98, 0, 2)
    alter("ALTER TABLE events DROP CONSTRAINT no_seven")
    assert redrive()["inserted"] == 2
    assert dump(database) == tenants


def test_deep_reconciliation_of_what_was_drained_archived_and_restored(
    alter: Alter, redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Configure,
    tmp_path: Path,
) -> None:  # fmt: skip
    entries = [event(n) | {b"time": f"{THURSDAY.date()}T00:{n // 60:02}:{n % 60:02}Z".encode()} for n in range(300)]
    send(redis_client, stream, entries)
    drain(stream)
    alter("""ALTER TABLE events ADD COLUMN "own %s" json; UPDATE events SET "own %s" = '[1,  2]'""")
    database.execute("DELETE FROM spillway.streams WHERE name <> %s", [stream])
    before = dump(database)
    assert archive(configure, tmp_path) == 300
    assert reconcile("*", deep=True)["balanced"]
    backfill(archive=True, expired="load")
    assert dump(database) == before
    assert reconcile("*", deep=True)["balanced"]
    # The restored file is compared with all columns, and repaired with all.
    alter("""UPDATE events SET "own %s" = '[1, 2]' WHERE event_id = (SELECT min(event_id::text)::uuid FROM events)""")
    (found,) = reconcile("*", deep=True, fail=False)["findings"]
    assert found["detail"] == "its row has another own %s"
    alter("""DELETE FROM events WHERE "own %s"::text = '[1, 2]'""")
    reconcile("*", deep=True, repair=True, fail=False)
    assert dump(database) == before


def test_a_file_of_an_archive_that_is_loaded_as_any_other_says_what_is_left_in_it(
    tenants: list[bytes], database: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    assert archive(configure, tmp_path) == 100
    result = backfill(str(next(tmp_path.rglob("*.parquet"))), expired="load")
    (warning,) = result["warnings"]
    assert "its columns 'tenant', 'n', 'mood' are not loaded: --archive restores them" in warning
    assert {line.split(b"\t")[5] for line in dump(database)} == {b"acme"}
    with pytest.raises(WrongUse, match="without is for columns of the archive"):
        backfill(str(tmp_path), without=["tenant"])
