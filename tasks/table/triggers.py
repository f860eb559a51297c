"""The user's triggers on a table may change rows. A row that arrives again is a duplicate if the row in the table is
what the triggers would make of it now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.errors.classify import error_scope
from infra.errors.sqlstates import ErrorScope
from infra.tables.statements import micros_of
from infra.tables.table import Table
from infra.timescaledb import TRIGGER_SCHEMAS
from tasks.table.isolate import InsertTarget, insert_each_into
from tasks.table.row_columns import RowColumns
from tasks.table.stage import STAGING_TABLE
from tasks.table.time_slices import TimeSlice, time_slices

# The user's triggers that run BEFORE INSERT FOR EACH ROW: they may change the row, including its key, or skip it.
_TRIGGERS = f"""
    SELECT t.tgname, pg_get_triggerdef(t.oid), format(' ON %%I.%%I ', n.nspname, c.relname)
      FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_proc AS f ON f.oid = t.tgfoid JOIN pg_namespace AS fn ON fn.oid = f.pronamespace
     WHERE t.tgrelid = %s::regclass AND t.tgtype & 7 = 7 AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
       AND fn.nspname NOT IN {TRIGGER_SCHEMAS}
     ORDER BY t.tgname"""  # noqa: S608
_MADE = sql.Identifier("pg_temp", "spillway_made")
_MAKE: LiteralString = """
    CREATE TEMP TABLE spillway_made
        (LIKE {table} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING IDENTITY) ON COMMIT DROP;
    ALTER TABLE {made} ADD COLUMN {number} BIGINT"""
_TIMES: LiteralString = "SELECT {first}, {last} FROM {made}"
_COMPARE: LiteralString = """
    SELECT s.{number}, {difference}, count(*)
      FROM {made} AS s JOIN {table} AS e ON {same_key} JOIN {stage} AS staged ON staged.number = s.{number}
     WHERE %(numbers)s::bigint[] IS NULL OR s.{number} = ANY(%(numbers)s::bigint[])
     GROUP BY 1, 2"""


@dataclass(frozen=True)
class TriggeredRows:
    """Staged rows as the triggers change them, compared with the table. Both by number of the staged row.

    `present`: how many rows of the table have the key of the changed row. `different`: the first column in which such
    a row differs from it.
    """

    present: Mapping[int, int]
    different: Mapping[int, str]


def has_row_triggers(connection: psycopg.Connection, table: Table) -> bool:
    """Whether the user has triggers that may change or skip a row. Raises `psycopg.Error`."""
    return bool(connection.execute(_TRIGGERS, [table.regclass]).fetchall())


def dry_run(connection: psycopg.Connection, columns: RowColumns, numbers: Sequence[int]) -> TriggeredRows | None:
    """Run the triggers on staged rows, and compare the results with the table. None if that is impossible.

    The triggers run on a temporary table with the columns of the table, and everything they do is rolled back. Rows
    that they skip or reject are not `present`. Raises `psycopg.Error` for a fault of the server.
    """
    if not columns.key:
        return None
    present: dict[int, int] = {}
    different: dict[int, str] = {}
    table = columns.table
    try:
        with connection.transaction(force_rollback=True):
            number = _free_name(table)
            connection.execute(sql.SQL(_MAKE).format(table=table.identifier, made=_MADE, number=number))
            for _, definition, on in connection.execute(_TRIGGERS, [table.regclass]).fetchall():
                connection.execute(definition.replace(on, " ON pg_temp.spillway_made ", 1))
            insert_each_into(connection, InsertTarget(_MADE, columns, number), numbers)
            query = sql.SQL(_COMPARE).format(
                made=_MADE,
                number=number,
                table=table.parameter_safe,
                stage=STAGING_TABLE,
                difference=columns.first_difference("s", "e", staged="staged"),
                same_key=columns.same_key(staged=False),
            )
            for part in _slices(connection, table, number):
                with connection.transaction(force_rollback=True):  # releases the locks
                    found = connection.execute(query, part.span | {"numbers": part.numbers}).fetchall()
                for row, column, count in found:
                    present[row] = present.get(row, 0) + count
                    if column is not None:
                        different[row] = column
    except psycopg.Error as error:
        if error_scope(error) is ErrorScope.SERVER:
            raise
        return None
    return TriggeredRows(present, different)


def _slices(connection: psycopg.Connection, table: Table, number: sql.Identifier) -> list[TimeSlice]:
    """The rows that the triggers made, with the first and the last of their times; in slices if they span many
    chunks."""
    if table.time is None:
        return [TimeSlice(None, None)]
    time = sql.Identifier(table.time)
    first, last = (micros_of(sql.SQL(end).format(time)) for end in ("min({})", "max({})"))
    query = sql.SQL(_TIMES).format(first=first, last=last, made=_MADE)
    low, high = connection.execute(query).fetchone() or (None, None)
    return time_slices(connection, table, TimeSlice(low, high), number, time, _MADE)


def _free_name(table: Table) -> sql.Identifier:
    """A name that no column of the table has."""
    name = "number"
    while name in table.by_name:
        name += "_"
    return sql.Identifier(name)
