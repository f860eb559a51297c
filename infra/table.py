"""The name of the `events` table in statements, always with its schema: the `search_path` decides nothing."""

from __future__ import annotations

from typing import Any, LiteralString

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


# The output text of a value `{c}`; null for null. Not `::text`: a type may have its own cast to text, and that of inet
# gives another text than its output.
AS_WRITTEN: LiteralString = "CASE pg_catalog.num_nulls({c}) WHEN 0 THEN pg_catalog.format('%%s', {c}) END"


def as_written(expression: sql.Composable) -> sql.Composed:
    """`AS_WRITTEN` for an expression, in a statement with parameters."""
    return sql.SQL(AS_WRITTEN).format(c=expression)


def parameter_safe(part: sql.Identifier | sql.Literal) -> sql.SQL:
    """A name or value for a statement with parameters, in which psycopg reads a `%` as a placeholder."""
    quoted: Any = part.as_string(None).replace("%", "%%")
    return sql.SQL(quoted)
