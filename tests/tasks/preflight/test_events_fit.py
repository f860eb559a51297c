"""All defects of `events` that keep rows out are reported at once, before anything is read."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from infra.errors.exceptions import Terminal
from infra.mapping.stream_mapping import BUILT_IN
from tasks.preflight.layouts import read_layout
from tasks.preflight.table_fit import check_tables
from tests.support.servers import Servers
from tests.support.triggers import trigger_sql
from tests.support.user_table import HYPERTABLE, TABLE_CHANGES

Alter = Callable[[str], None]


def check_table(connection: psycopg.Connection) -> None:
    """Check `events` as every drain does."""
    check_tables(connection, [read_layout(connection, BUILT_IN)])


_PLAIN = """
    DROP TABLE events; CREATE TABLE events (time timestamptz NOT NULL, event_id uuid NOT NULL, event_type text,
    user_id text, properties jsonb {key}); {then}"""
PROBLEMS = {
    "a plain table": (
        _PLAIN.format(key=", PRIMARY KEY (event_id, time)", then=""),
        ["not a hypertable", "create_hypertable"],
    ),
    "another dimension": (
        "DROP TABLE events; CREATE TABLE events (time timestamptz NOT NULL, event_id uuid, event_type text,"
        " user_id text, properties jsonb, at timestamptz NOT NULL DEFAULT now());"
        " SELECT create_hypertable('events', 'at')",
        ["found chunks by at", "no unique index"],
    ),
    "no key": (
        "ALTER TABLE events DROP CONSTRAINT events_pkey",
        ["no unique index on (event_id, time)"],
    ),
    "a wider key": (
        "ALTER TABLE events DROP CONSTRAINT events_pkey; CREATE UNIQUE INDEX ON events (event_id, time, user_id)",
        ["no unique index"],
    ),
    "a partial key": (
        "ALTER TABLE events DROP CONSTRAINT events_pkey;"
        " CREATE UNIQUE INDEX ON events (event_id, time) WHERE user_id <> ''",
        ["no unique index"],
    ),
    "a deferrable key": (
        _PLAIN.format(key=", UNIQUE (event_id, time) DEFERRABLE", then=HYPERTABLE),
        ["no unique index"],
    ),
    "several": (
        "ALTER TABLE events DROP COLUMN properties, ADD COLUMN tenant text NOT NULL, ALTER COLUMN user_id TYPE bytea"
        " USING user_id::bytea",
        ["properties is missing", "user_id is bytea, expected text", '"tenant" is NOT NULL and has no default'],
    ),
    "a shorter time": (
        "ALTER TABLE events ALTER COLUMN time TYPE timestamptz(0)",
        ["time is timestamp(0) with time zone"],
    ),
    "a view": ("DROP TABLE events; CREATE VIEW events AS SELECT 1 AS time", ["expected a table, found a view"]),
}


@pytest.mark.parametrize(("change", "words"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_problem_is_reported_with_the_next_command(
    servers: Servers, database: psycopg.Connection, alter: Alter, change: str, words: list[str]
) -> None:
    if not servers.edition and "hypertable" in words[0] + change and HYPERTABLE not in change:
        pytest.skip("hypertables need TimescaleDB")
    try:
        alter(change)
    except psycopg.errors.FeatureNotSupported as error:
        pytest.skip(f"TimescaleDB itself refuses that: {error}")
    with pytest.raises(Terminal) as refused:
        check_table(database)
    for word in words:
        assert word in str(refused.value)
    assert "\n" not in str(refused.value)


def test_row_security_is_reported_to_the_role_that_it_applies_to(database: psycopg.Connection, alter: Alter) -> None:
    try:
        alter(
            "ALTER TABLE events ENABLE ROW LEVEL SECURITY; CREATE ROLE spillway_mere;"
            " GRANT ALL ON events TO spillway_mere"
        )
        check_table(database)  # a superuser and the owner see all rows
        database.execute("SET ROLE spillway_mere")
        with pytest.raises(Terminal, match="row security applies to the role spillway_mere"):
            check_table(database)
    finally:
        database.execute("RESET ROLE; DROP OWNED BY spillway_mere; DROP ROLE spillway_mere")


@pytest.mark.parametrize("change", TABLE_CHANGES.values(), ids=TABLE_CHANGES)
def test_harmless_changes_are_accepted(database: psycopg.Connection, alter: Alter, change: str) -> None:
    alter(change)
    check_table(database)


def test_a_required_column_that_a_trigger_fills_in_is_accepted(database: psycopg.Connection, alter: Alter) -> None:
    alter("ALTER TABLE events ADD COLUMN tenant text NOT NULL")
    alter(trigger_sql("NEW.tenant := 'acme';"))
    check_table(database)
