"""The user's triggers on `events` may change rows. A row that arrives again is a duplicate if the row in the table is
what the triggers would make of it now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.epoch import micros_sql
from infra.errors.classify import error_scope
from infra.errors.sqlstates import ErrorScope
from infra.tables.events import events_name, on_events
from infra.timescaledb import TRIGGER_SCHEMAS
from tasks.base.stream_sql import fill_in
from tasks.table.isolate import InsertTarget, insert_each_into
from tasks.table.row_columns import RowColumns
from tasks.table.stage import SAME_KEY

# The user's triggers that run BEFORE INSERT FOR EACH ROW: they may change the row, including its key, or skip it.
_TRIGGERS = f"""
    SELECT t.tgname, pg_get_triggerdef(t.oid), format(' ON %%I.%%I ', n.nspname, c.relname)
      FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_proc AS f ON f.oid = t.tgfoid JOIN pg_namespace AS fn ON fn.oid = f.pronamespace
     WHERE t.tgrelid = %s::regclass AND t.tgtype & 7 = 7 AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
       AND fn.nspname NOT IN {TRIGGER_SCHEMAS}
     ORDER BY t.tgname"""  # noqa: S608
_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
_MADE = sql.Identifier("pg_temp", "spillway_made")
_MAKE: LiteralString = """
    CREATE TEMP TABLE spillway_made
        (LIKE {events} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING IDENTITY) ON COMMIT DROP;
    ALTER TABLE {made} ADD COLUMN {number} BIGINT"""
_TIMES = fill_in(
    """
    SELECT {first}, {last} FROM {made}""",
    first=micros_sql("min(time)"),
    last=micros_sql("max(time)"),
)
_COMPARE: LiteralString = """
    SELECT s.{number},
           CASE WHEN s.event_type <> e.event_type THEN 'event_type' WHEN s.user_id <> e.user_id THEN 'user_id'
                WHEN s.properties IS DISTINCT FROM e.properties THEN 'properties' {extra} END, count(*)
      FROM {made} AS s JOIN {events} AS e ON {same_key}
     GROUP BY 1, 2"""


@dataclass(frozen=True)
class TriggeredRows:
    """Staged rows as the triggers change them, compared with the table. Both by number of the staged row.

    `present`: how many rows of the table have the key of the changed row. `different`: the first column in which such
    a row differs from it.
    """

    present: Mapping[int, int]
    different: Mapping[int, str]


def has_row_triggers(connection: psycopg.Connection) -> bool:
    """Whether the user has triggers that may change or skip a row. Raises `psycopg.Error`."""
    return bool(connection.execute(_TRIGGERS, [events_name()]).fetchall())


def dry_run(connection: psycopg.Connection, columns: RowColumns, numbers: Sequence[int]) -> TriggeredRows | None:
    """Run the triggers on staged rows, and compare the results with the table. None if that is impossible.

    The triggers run on a temporary table with the columns of `events`, and everything they do is rolled back. Rows that
    they skip or reject are not `present`. Raises `psycopg.Error` for a fault of the server.
    """
    present: dict[int, int] = {}
    different: dict[int, str] = {}
    try:
        with connection.transaction(force_rollback=True):
            number = _free_name(connection)
            connection.execute(on_events(_MAKE, made=_MADE, number=number))
            for _, definition, table in connection.execute(_TRIGGERS, [events_name()]).fetchall():
                connection.execute(definition.replace(table, " ON pg_temp.spillway_made ", 1))
            insert_each_into(connection, InsertTarget(_MADE, columns, number), numbers)
            first, last = connection.execute(sql.SQL(_TIMES).format(made=_MADE)).fetchone() or (None, None)
            extra = columns.extra_column_differs("s", "e", staged=False)
            query = on_events(_COMPARE, made=_MADE, number=number, extra=extra, same_key=SAME_KEY)
            for row, column, count in connection.execute(query, {"first": first, "last": last}).fetchall():
                present[row] = present.get(row, 0) + count
                if column is not None:
                    different[row] = column
    except psycopg.Error as error:
        if error_scope(error) is ErrorScope.SERVER:
            raise
        return None
    return TriggeredRows(present, different)


def _free_name(connection: psycopg.Connection) -> sql.Identifier:
    """A name that no column of `events` has."""
    taken = {name for (name,) in connection.execute(_COLUMNS, [events_name()])}
    name = "number"
    while name in taken:
        name += "_"
    return sql.Identifier(name)
