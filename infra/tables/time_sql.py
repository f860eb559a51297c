"""The time of a table's rows in statements, whether its column is a timestamptz, a timestamp or a date.

A timestamp is the wall clock in UTC, and a date its midnight in UTC. TimescaleDB reads the ranges of chunks so.
"""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from infra.tables.statements import parameter_safe
from infra.tables.table import Table

_MOMENTS: dict[str, LiteralString] = {
    "timestamptz": "{c}",
    "timestamp": "({c} AT TIME ZONE 'UTC')",
    "date": "({c}::pg_catalog.timestamp AT TIME ZONE 'UTC')",
}


def time_column(table: Table, alias: LiteralString = "") -> sql.Composed:
    """The time column, with the alias of its table if there is one, in a statement with parameters."""
    assert table.time is not None  # the caller has chunks, or has checked
    column = parameter_safe(sql.Identifier(table.time))
    return sql.SQL("{}.{}").format(sql.Identifier(alias), column) if alias else sql.Composed([column])


def moment(table: Table, alias: LiteralString = "") -> sql.Composed:
    """The time of a row as a timestamptz, in a statement with parameters."""
    return moment_of(table, time_column(table, alias))


def moment_of(table: Table, expression: sql.Composable) -> sql.Composed:
    """An expression of the type of the time column as a timestamptz, in a statement with parameters."""
    return sql.SQL(_MOMENTS[_base(table)]).format(c=expression)


def time_bound(table: Table, parameter: LiteralString = "%s") -> sql.SQL:
    """A parameter, a datetime with an offset, as a value that the time column can be compared with by its index."""
    if _base(table) == "timestamptz":
        return sql.SQL(f"{parameter}::timestamptz")
    return sql.SQL(f"({parameter}::timestamptz AT TIME ZONE 'UTC')")


def time_value(table: Table, parameter: LiteralString = "%s") -> sql.SQL:
    """A parameter, a datetime with an offset, as a value of the type of the time column; of a date, its day in UTC."""
    if _base(table) == "date":
        return sql.SQL(f"({parameter}::timestamptz AT TIME ZONE 'UTC')::pg_catalog.date")
    return time_bound(table, parameter)


def _base(table: Table) -> str:
    assert table.time is not None  # the caller has chunks, or has checked
    return table.by_name[table.time].base
