"""schema.sql on a real server: what it makes, that it may be applied again, and what its tables refuse."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from infra.schema import apply_schema
from infra.settings import SCHEMA_SQL
from tests.support.servers import Servers

_CATALOG = """
    SELECT 'column', c.table_schema || '.' || c.table_name, c.column_name,
           concat_ws(' ', data_type, is_nullable, column_default, is_identity)
      FROM information_schema.columns c WHERE table_schema IN ('public', 'spillway')
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace::regnamespace::text IN ('public', 'spillway')
    UNION ALL
    SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname IN ('public', 'spillway')
    UNION ALL
    SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid)
      FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT 'hypertable', hypertable_name, column_name, time_interval::text FROM timescaledb_information.dimensions
    UNION ALL
    SELECT 'extension', extname, extversion, '' FROM pg_extension
     ORDER BY 1, 2, 3"""


def catalog(url: str) -> list[tuple[str, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(_CATALOG).fetchall()


def apply_with_psql(url: str) -> None:
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("psql is not on the PATH")
    command = [psql, "-X", "-q", "-d", url, "-f", str(SCHEMA_SQL)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | {"LC_ALL": "C"})
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def empty_database(servers: Servers) -> Iterator[str]:
    """The URL of a database of this test's own, with nothing in it."""
    name = f"schema_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(servers.settings.database, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        try:
            yield urlunsplit(urlsplit(servers.settings.database)._replace(path=f"/{name}"))
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_psql_alone_applies_it_and_applied_again_it_changes_nothing(empty_database: str) -> None:
    apply_with_psql(empty_database)
    first = catalog(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("INSERT INTO events VALUES ('2024-01-02', gen_random_uuid(), 't', 'u', '{}')")
        connection.execute("INSERT INTO spillway.streams (name, baseline) VALUES ('s', 0)")
        before = catalog(empty_database)
        apply_with_psql(empty_database)
        apply_schema(empty_database)
        assert catalog(empty_database) == before
        rows = connection.execute("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM spillway.streams)")
        assert rows.fetchone() == (1, 1)
    assert {row[:2] for row in first} <= {row[:2] for row in before}


def test_spillway_applies_the_same_as_psql(empty_database: str, servers: Servers) -> None:
    apply_schema(empty_database)
    applied = catalog(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA spillway CASCADE")
        connection.execute("DROP TABLE events")
    apply_with_psql(empty_database)
    assert catalog(empty_database) == applied


def test_the_events_table_is_exactly_the_one_that_is_promised(empty_database: str) -> None:
    apply_schema(empty_database)
    found = [row for row in catalog(empty_database) if row[1] in ("public.events", "events")]
    assert [(row[2], row[3]) for row in found if row[0] == "column"] == [
        ("event_id", "uuid NO NO"),
        ("event_type", "text NO NO"),
        ("properties", "jsonb YES NO"),
        ("time", "timestamp with time zone NO NO"),
        ("user_id", "text NO NO"),
    ]
    with psycopg.connect(empty_database) as connection:
        columns = connection.execute("SELECT * FROM events").description
        assert [column.name for column in columns or ()] == ["time", "event_id", "event_type", "user_id", "properties"]
    keys = [row[3] for row in found if row[0] == "constraint" and not row[3].startswith("NOT NULL")]
    assert keys == ['PRIMARY KEY (event_id, "time")']
    indexes = {re.sub(r".* USING ", "", row[3]) for row in found if row[0] == "index"}
    assert indexes == {
        'btree (event_id, "time")',
        'btree (event_type, "time")',
        'btree (user_id, "time")',
        "gin (properties)",
        'btree ("time" DESC)',  # create_hypertable's own
    }
    assert [row[2] for row in found if row[0] == "hypertable"] == ["time"]


# ledger ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(database: psycopg.Connection) -> psycopg.Connection:
    """Empty tables and two streams."""
    database.execute("INSERT INTO spillway.streams (name, baseline) VALUES ('one', 0), ('two', 0)")
    return database


def enter(ledger: psycopg.Connection, name: str, ids: str, counts: tuple[int, int, int, int] = (0, 0, 0, 0)) -> None:
    ledger.execute(
        """INSERT INTO spillway.ledger (stream, ids, loaded_by, read, inserted, duplicates, quarantined)
           SELECT id, %s::numrange, 'test', %s, %s, %s, %s FROM spillway.streams WHERE name = %s""",
        [ids, *counts, name],
    )


def entered(ledger: psycopg.Connection) -> list[tuple[str, str]]:
    query = "SELECT name, ids::text FROM spillway.ledger JOIN spillway.streams ON id = stream ORDER BY name, ids"
    return ledger.execute(query).fetchall()


@pytest.mark.parametrize("ids", ["[10,20)", "[0,11)", "[19,30)", "[12,13)", "[0,100)", "[19,19]", "(9,11)"])
def test_a_range_that_holds_a_drained_id_is_refused(ledger: psycopg.Connection, ids: str) -> None:
    enter(ledger, "one", "[10,20)")
    with pytest.raises(psycopg.errors.ExclusionViolation) as refused:
        enter(ledger, "one", ids)
    assert refused.value.sqlstate == "23P01"
    assert refused.value.diag.constraint_name == "ledger_no_overlap"
    assert entered(ledger) == [("one", "[10,20)")]


def test_neighbours_and_the_same_ids_of_other_streams_are_accepted(ledger: psycopg.Connection) -> None:
    for ids in ("[10,20)", "[20,30)", "[0,10)", f"[{2**64 * 1_700_000_000_000},{2**64 * 1_700_000_000_000 + 1})"):
        enter(ledger, "one", ids)
        enter(ledger, "two", ids)
    assert len(entered(ledger)) == 8


def test_ids_at_the_far_end_of_a_stream_are_told_apart_to_the_last_digit(ledger: psycopg.Connection) -> None:
    end = 2**128
    enter(ledger, "one", f"[{end - 2},{end - 1})")
    enter(ledger, "one", f"[{end - 1},{end})")
    with pytest.raises(psycopg.errors.ExclusionViolation):
        enter(ledger, "one", f"[{end - 1},{end})")


@pytest.mark.parametrize("ids", ["empty", "[1,1)", "(,5)", "[5,)", "(,)"])
def test_a_range_without_an_id_or_without_an_end_is_refused(ledger: psycopg.Connection, ids: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        enter(ledger, "one", ids)
    assert entered(ledger) == []


@pytest.mark.parametrize("counts", [(1, 0, 0, 0), (0, 1, 0, 0), (5, 3, 1, 0), (5, 3, 1, 2)])
def test_books_that_do_not_balance_are_refused(ledger: psycopg.Connection, counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        enter(ledger, "one", "[0,5)", counts)
    assert refused.value.diag.constraint_name == "ledger_balances"
    enter(ledger, "one", "[0,5)", (6, 3, 2, 1))
    with pytest.raises(psycopg.errors.CheckViolation):
        ledger.execute("UPDATE spillway.ledger SET inserted = inserted + 1")


def test_a_range_of_a_stream_that_nobody_knows_is_refused(ledger: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        ledger.execute("INSERT INTO spillway.ledger (stream, ids, loaded_by) VALUES (-1, '[0,1)', 'test')")


# version check --------------------------------------------------------------------------------------------------------


def check(connection: psycopg.Connection, installed: str | None, available: str | None) -> None:
    """Run the file's own check against a list of extensions that says what the test wants."""
    found = re.search(r"^DO \$\$.*?^END \$\$;$", SCHEMA_SQL.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    with connection.transaction(force_rollback=True):
        connection.execute(
            "CREATE TEMP TABLE pg_available_extensions (name name, default_version text, installed_version text)"
        )
        if available is not None:
            connection.execute(
                "INSERT INTO pg_available_extensions VALUES ('timescaledb', %s, %s)", [available, installed]
            )
        connection.execute("SET LOCAL search_path = pg_temp, pg_catalog")
        connection.execute(found[0].encode())


@pytest.mark.parametrize(
    ("installed", "available"),
    [("2.18.1", "2.18.1"), (None, "2.18.1"), (None, "2.19.0-dev"), ("2.100.0", "2.100.0"), ("3.0.0", "3.0.0")],
)
def test_a_version_that_keeps_every_row_is_accepted(
    database: psycopg.Connection, installed: str | None, available: str
) -> None:
    check(database, installed, available)


@pytest.mark.parametrize(
    ("installed", "available"), [("2.17.2", "2.19.0"), (None, "2.18.0"), ("2.9.3", "2.9.3"), ("1.7.5", "2.20.0")]
)
def test_a_version_that_may_lose_rows_is_refused_with_the_reason(
    database: psycopg.Connection, installed: str | None, available: str
) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match=r"is older than 2\.18\.1.*lose rows") as refused:
        check(database, installed, available)
    assert (installed or available) in str(refused.value)
    assert "ALTER EXTENSION timescaledb UPDATE" in (refused.value.diag.message_hint or "")


def test_a_server_without_the_extension_is_refused_with_the_reason(database: psycopg.Connection) -> None:
    """The check itself; a server that truly has none is not at hand here."""
    with pytest.raises(psycopg.errors.RaiseException, match="no TimescaleDB extension"):
        check(database, None, None)
