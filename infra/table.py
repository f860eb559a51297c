"""The name of the `events` table in statements: always with its schema, never left to a session's `search_path`."""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from infra.settings import settings

EVENTS = "events"


def events_table() -> sql.Identifier:
    """The table as a statement names it, in the schema of `SPILLWAY_EVENTS_SCHEMA`."""
    return sql.Identifier(settings().events_schema, EVENTS)


def events_name() -> str:
    """The table as a parameter names it that becomes a `regclass`: quoted, with its schema."""
    return events_table().as_string(None)


def on_events(text: LiteralString, **parts: sql.Composable) -> sql.Composed:
    """The statement `text` with `{events}` as the table, and the other `parts` as they are."""
    return sql.SQL(text).format(events=events_table(), **parts)
