"""schema.sql on a real server: what it creates, that it is safe to repeat, and which servers it refuses."""

from __future__ import annotations

import re

import psycopg
import pytest

from infra.schema.build import schema_sql
from infra.schema.migrate import apply_schema
from infra.schema.scripts import scripts
from infra.settings import SCHEMA_SQL
from infra.tables.read_table import read_table
from infra.tables.table import TableKind
from tests.support.catalog import apply_with_psql, catalog
from tests.support.servers import Servers


def test_schema_sql_is_up_to_date() -> None:
    assert SCHEMA_SQL.read_text(encoding="utf-8") == schema_sql(), "run `make schema`"


def test_psql_applies_it_and_a_repetition_changes_nothing(empty_database: str) -> None:
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


def test_spillway_applies_the_same_as_psql(empty_database: str) -> None:
    apply_schema(empty_database)
    applied = catalog(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA spillway CASCADE")
        connection.execute("DROP TABLE events")
    apply_with_psql(empty_database)
    assert catalog(empty_database) == applied


def test_the_events_table_is_exactly_the_documented_one(servers: Servers, empty_database: str) -> None:
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
    expected = {
        'btree (event_id, "time")',
        'btree (event_type, "time")',
        'btree (user_id, "time")',
        "gin (properties)",
    }
    if servers.edition:
        expected.add('btree ("time" DESC)')  # create_hypertable's own
    assert indexes == expected
    assert [row[2] for row in found if row[0] == "hypertable"] == ["time"] * bool(servers.edition)


@pytest.mark.parametrize("by_psql", [True, False], ids=["psql", "spillway"])
def test_a_partitioned_events_table_of_the_user_is_left_as_it_is(empty_database: str, by_psql: bool) -> None:
    """On every server: only a table of the schema's own becomes a hypertable."""
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE events (time timestamptz NOT NULL, event_id uuid NOT NULL, event_type text, user_id text,"
            " properties jsonb, PRIMARY KEY (event_id, time)) PARTITION BY RANGE (time)"
        )
        for _ in range(2):
            (apply_with_psql if by_psql else apply_schema)(empty_database)
        found = read_table(connection, "events")
        assert (found.kind, found.time) == (TableKind.PARTITIONED, "time")


# version check --------------------------------------------------------------------------------------------------------


def run_version_check(connection: psycopg.Connection, installed: str | None, available: str | None) -> None:
    """Run the check of the preamble against a fake list of extensions."""
    found = re.search(r"^DO \$\$.*?^END \$\$;$", scripts()[0].text, re.DOTALL | re.MULTILINE)
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
def test_a_timescaledb_that_keeps_every_row_is_accepted(
    database: psycopg.Connection, installed: str | None, available: str
) -> None:
    run_version_check(database, installed, available)


@pytest.mark.parametrize(
    ("installed", "available"), [("2.17.2", "2.19.0"), (None, "2.18.0"), ("2.9.3", "2.9.3"), ("1.7.5", "2.20.0")]
)
def test_a_timescaledb_that_may_lose_rows_is_refused_with_the_reason(
    database: psycopg.Connection, installed: str | None, available: str
) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match=r"is older than 2\.18\.1.*lose rows") as refused:
        run_version_check(database, installed, available)
    assert (installed or available) in str(refused.value)
    assert "ALTER EXTENSION timescaledb UPDATE" in (refused.value.diag.message_hint or "")


def test_a_server_without_the_extension_is_accepted(database: psycopg.Connection) -> None:
    """The check alone; `SPILLWAY_TEST_ENGINE=plain` runs all tests of this file on such a server."""
    run_version_check(database, None, None)
