"""The events table is found by its schema's name, whatever else is called events."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from infra.schema.migrate import apply_schema
from infra.settings import Settings
from infra.tables.events import events_name, events_table
from tasks.table.chunks import chunks
from tests.support.default_table import default_table


def test_the_name_is_quoted_with_its_schema(configure: Callable[..., Settings]) -> None:
    """A schema may have any name that PostgreSQL allows."""
    configure(events_schema='my "own" schema')
    assert events_name() == '"my ""own"" schema"."events"'
    assert events_table() == sql.Identifier('my "own" schema', "events")


@pytest.mark.hypertables
@pytest.mark.usefixtures("hypertables")
def test_the_events_table_is_created_in_the_configured_schema(
    configure: Callable[..., Settings], database: psycopg.Connection
) -> None:
    """The hypertable is created in the schema of the setting, which is created once if it is missing."""
    config = configure(events_schema='it\'s "odd"')
    try:
        for _ in range(2):
            apply_schema(config.database)
        database.execute(sql.SQL("INSERT INTO {} VALUES (now(), gen_random_uuid(), 't', 'u')").format(events_table()))
        assert len(chunks(database, default_table(database))) == 1
        assert database.execute("SELECT count(*) FROM public.events").fetchone() == (0,)
    finally:
        database.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(config.events_schema)))
