"""The events table is found by its schema's name, whatever else is called events."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from psycopg import sql

from infra.schema.migrate import apply_schema
from infra.settings import Settings
from infra.tables.read_table import read_table
from infra.tables.table import TableKind
from tests.support.servers import Servers


def test_the_events_table_is_created_in_the_configured_schema(
    servers: Servers, configure: Callable[..., Settings], database: psycopg.Connection
) -> None:
    """It is created in the schema of the setting, which is created once if it is missing."""
    config = configure(events_schema='it\'s "odd"')
    try:
        for _ in range(2):
            apply_schema(config.database)
        found = read_table(database, "events")
        assert found.schema == config.events_schema
        assert found.kind is (TableKind.HYPERTABLE if servers.edition else TableKind.PLAIN)
        database.execute(sql.SQL("INSERT INTO {} VALUES (now(), gen_random_uuid(), 't', 'u')").format(found.identifier))
        assert database.execute("SELECT count(*) FROM public.events").fetchone() == (0,)
    finally:
        database.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(config.events_schema)))
