"""What the triggers of `events` make of rows that come again: such a row is a duplicate if the row in the table is what
they would make of it today."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.epoch import micros_sql
from infra.errors.classify import error_scope
from infra.errors.sqlstates import ErrorScope
from infra.table import events_name, on_events
from infra.timescaledb import TRIGGER_SCHEMAS
from tasks.base.stream_sql import fill_in
from tasks.table.isolate import InsertTarget, put_each
from tasks.table.row_columns import RowColumns
from tasks.table.stage import SAME_KEY

# Those of the user's that run before an INSERT for each row: they may change the row, its key too, or skip it.
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
_LOOK: LiteralString = """
    SELECT s.{number},
           CASE WHEN s.event_type <> e.event_type THEN 'event_type' WHEN s.user_id <> e.user_id THEN 'user_id'
                WHEN s.properties IS DISTINCT FROM e.properties THEN 'properties' {own} END, count(*)
      FROM {made} AS s JOIN {events} AS e ON {same_key}
     GROUP BY 1, 2"""


@dataclass
class TriggeredRows:
    """Rows as the triggers make them, by number. `present`: how many rows of the table have its key then. `different`:
    the first column in which that one is another."""

    present: dict[int, int] = field(default_factory=dict)
    different: dict[int, str] = field(default_factory=dict)


def has_row_triggers(connection: psycopg.Connection) -> bool:
    """Whether the user has triggers that may change or skip a row."""
    return bool(connection.execute(_TRIGGERS, [events_name()]).fetchall())


def dry_run(connection: psycopg.Connection, columns: RowColumns, numbers: Sequence[int]) -> TriggeredRows | None:
    """What the triggers make of staged rows, and how the table compares with it; None if that cannot be found out.

    The triggers run in a temporary table with the columns of `events`, and all that they do is undone. Rows that they
    skip or reject are not `present`.
    """
    made = TriggeredRows()
    try:
        with connection.transaction(force_rollback=True):
            number = _free_name(connection)
            connection.execute(on_events(_MAKE, made=_MADE, number=number))
            for _, definition, table in connection.execute(_TRIGGERS, [events_name()]).fetchall():
                connection.execute(definition.replace(table, " ON pg_temp.spillway_made ", 1))
            put_each(connection, InsertTarget(_MADE, columns, number), numbers)
            first, last = connection.execute(sql.SQL(_TIMES).format(made=_MADE)).fetchone() or (None, None)
            own = columns.own_differs("s", "e", staged=False)
            query = on_events(_LOOK, made=_MADE, number=number, own=own, same_key=SAME_KEY)
            for row, column, count in connection.execute(query, {"first": first, "last": last}).fetchall():
                made.present[row] = made.present.get(row, 0) + count
                if column is not None:
                    made.different[row] = column
    except psycopg.Error as error:
        if error_scope(error) is ErrorScope.SERVER:
            raise
        return None
    return made


def _free_name(connection: psycopg.Connection) -> sql.Identifier:
    """A name that no column of `events` has."""
    taken = {name for (name,) in connection.execute(_COLUMNS, [events_name()])}
    name = "number"
    while name in taken:
        name += "_"
    return sql.Identifier(name)
