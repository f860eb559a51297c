"""Finds the rows of a batch that the types of their columns reject, all in one statement.

A COPY stops at the first such row. So the rows go into a table whose columns accept anything, and a loop on the server
calls the input function of each type, as a COPY does. It takes 10 µs a row; a COPY that fails takes 1,000.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.errors.classify import error_scope
from infra.errors.sqlstates import ErrorScope
from tasks.table.row_columns import RowColumns

_SENT = sql.Identifier("pg_temp", "spillway_sent")
_MAKE = sql.SQL("""
    DROP TABLE IF EXISTS {sent}, pg_temp.spillway_mistyped;
    CREATE TEMP TABLE spillway_sent ({columns}) ON COMMIT DROP;
    ALTER TABLE {sent} ADD COLUMN number BIGINT GENERATED ALWAYS AS IDENTITY;
    CREATE TEMP TABLE spillway_mistyped
        (number BIGINT, field TEXT, state TEXT, message TEXT, detail TEXT) ON COMMIT DROP""")
# For each column whose values a type may reject: the call of its input function with a value as text, where %s stands
# for the row. An array's input function is called with the type of its elements.
_CALLS: LiteralString = """
    SELECT a.attname, format('%%I.%%I(%%s%%s)', n.nspname, i.proname,
                             CASE WHEN s.atttypid = 'bytea'::regtype AND t.typname = 'jsonb'
                                  THEN format('textout(convert_from(substr(_row.%%I, 2), ''UTF8''))', a.attname)
                                  ELSE format('%%I(_row.%%I)', o.proname, a.attname) END,
                             CASE i.pronargs WHEN 1 THEN ''
                                  WHEN 2 THEN format(', %%s', io.param)
                                  ELSE format(', %%s, %%s', io.param, a.atttypmod) END)
      FROM pg_attribute AS a
      JOIN pg_attribute AS s ON s.attrelid = 'pg_temp.spillway_sent'::regclass AND s.attname = a.attname
      JOIN pg_type AS t ON t.oid = a.atttypid
      JOIN pg_type AS st ON st.oid = s.atttypid
      JOIN pg_proc AS i ON i.oid = t.typinput JOIN pg_namespace AS n ON n.oid = i.pronamespace
      JOIN pg_proc AS o ON o.oid = st.typoutput,
           LATERAL (SELECT CASE t.typelem WHEN 0 THEN t.oid ELSE t.typelem END AS param) AS io
     WHERE a.attrelid = 'pg_temp.spillway_stage'::regclass AND a.attnum > 0 AND a.attname = ANY(%s)
       AND (a.atttypid, a.atttypmod) <> (s.atttypid, s.atttypmod)
     ORDER BY a.attnum"""
# Only a data exception and the constraint of a domain are recorded. The COPY that follows decides about anything else.
_CHECK: LiteralString = """
DO $spillway$
DECLARE
    _row record;
    _field text;
    _null boolean;
    _state text;
    _message text;
    _detail text;
BEGIN
    FOR _row IN SELECT * FROM {sent} ORDER BY number LOOP
        BEGIN
            {calls}
        EXCEPTION WHEN data_exception OR integrity_constraint_violation THEN
            GET STACKED DIAGNOSTICS _state = RETURNED_SQLSTATE, _message = MESSAGE_TEXT, _detail = PG_EXCEPTION_DETAIL;
            INSERT INTO pg_temp.spillway_mistyped VALUES (_row.number, _field, _state, _message, _detail);
        END;
    END LOOP;
END $spillway$"""
_CALL: LiteralString = "_field := {field}; _null := {call} IS NULL;"
_FETCH = "SELECT number, field, message, detail, state FROM pg_temp.spillway_mistyped"
# The type in which a binary COPY may send any value, by the type of the column; else that type without its modifier.
_ACCEPTS_ANY = {"json": "text", "jsonb": "bytea", "varchar": "text", "bpchar": "text"}


@dataclass(frozen=True)
class MistypedRow:
    """A row that a type rejects. `position`: among the rows that were sent. `column`: the first at fault."""

    position: int
    column: str
    message: str
    detail: str
    state: str


def find_mistyped(
    connection: psycopg.Connection, columns: RowColumns, send: Callable[[sql.Identifier], object]
) -> list[MistypedRow]:
    """The rows that the types of the staging table reject, as far as that can be found out.

    Runs in the caller's transaction. `send`: copies the rows into a table with the columns of the staging table. Raises
    `psycopg.Error` if the server fails.
    """
    try:
        with connection.transaction():
            connection.execute(_MAKE.format(sent=_SENT, columns=_sent_columns(columns)))
            send(_SENT)
            calls = connection.execute(_CALLS, [list(columns.originals)]).fetchall()
            if not calls:
                return []
            lines = [sql.SQL(_CALL).format(field=name, call=sql.SQL(call)) for name, call in calls]
            connection.execute(sql.SQL(_CHECK).format(sent=_SENT, calls=sql.SQL("\n").join(lines)))
            found = connection.execute(_FETCH).fetchall()
    except psycopg.Error as error:
        if error_scope(error) is ErrorScope.SERVER:
            raise
        return []  # such as bytes that are no text
    return [MistypedRow(number - 1, columns.originals[field], *rest) for number, field, *rest in found]


def _sent_columns(columns: RowColumns) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(staged), sql.Identifier("pg_catalog", _accepts_any(columns, name)))
        for name, staged in columns.numbered.items()
    )


def _accepts_any(columns: RowColumns, name: str) -> str:
    column = columns.table.by_name[name]
    if not columns.binary or column.kind == "e":
        return "text"
    return _ACCEPTS_ANY.get(column.base, column.base)
