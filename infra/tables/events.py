"""The name of the `events` table in statements, always with its schema: the `search_path` decides nothing."""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from infra.settings import settings

EVENTS = "events"


def events_table() -> sql.Identifier:
    """The table as an identifier, in the schema of `SPILLWAY_EVENTS_SCHEMA`."""
    return sql.Identifier(settings().events_schema, EVENTS)


def events_name() -> str:
    """The table's quoted name with its schema, as text for a `regclass`."""
    return events_table().as_string(None)


def on_events(text: LiteralString, **parts: sql.Composable) -> sql.Composed:
    """The statement `text` with the table for `{events}` and `parts` for the other placeholders."""
    return sql.SQL(text).format(events=events_table(), **parts)
