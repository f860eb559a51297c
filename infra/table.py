"""The name of the `events` table in statements: always with its schema, never left to a session's `search_path`."""

from __future__ import annotations

from typing import Any, LiteralString

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


# The text that the type of a value `{c}` writes, null for null. Never `::text`: a type may have a cast of its own to
# text, and that of inet, for one, is not what it writes.
AS_WRITTEN: LiteralString = "CASE pg_catalog.num_nulls({c}) WHEN 0 THEN pg_catalog.format('%%s', {c}) END"


def as_written(expression: sql.Composable) -> sql.Composed:
    """`AS_WRITTEN` of an expression, in a statement that has parameters."""
    return sql.SQL(AS_WRITTEN).format(c=expression)


def parameter_safe(part: sql.Identifier | sql.Literal) -> sql.SQL:
    """A name or a value in a statement that has parameters: psycopg takes a `%` in it for one."""
    quoted: Any = part.as_string(None).replace("%", "%%")
    return sql.SQL(quoted)
