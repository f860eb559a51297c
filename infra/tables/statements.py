"""Parts of SQL statements about any table."""

from __future__ import annotations

from typing import Any, LiteralString

from psycopg import sql

# The output text of a value `{c}`; null for null. Not `::text`: a type may have its own cast to text, and that of inet
# gives another text than its output.
AS_WRITTEN: LiteralString = "CASE pg_catalog.num_nulls({c}) WHEN 0 THEN pg_catalog.format('%%s', {c}) END"


def as_written(expression: sql.Composable) -> sql.Composed:
    """`AS_WRITTEN` for an expression, in a statement with parameters."""
    return sql.SQL(AS_WRITTEN).format(c=expression)


def micros_of(expression: sql.Composable) -> sql.Composed:
    """The microseconds since 1970, a bigint, of a timestamptz, or of a timestamp or date in UTC."""
    return sql.SQL("(extract(epoch FROM {}) * 1000000)::bigint").format(expression)


def parameter_safe(part: sql.Identifier | sql.Literal) -> sql.SQL:
    """A name or value for a statement with parameters, in which psycopg reads a `%` as a placeholder."""
    quoted: Any = part.as_string(None).replace("%", "%%")
    return sql.SQL(quoted)
