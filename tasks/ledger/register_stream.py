"""Registers streams and files in the ledger, each with the table that its rows go to.

The table is fixed by the first range in the ledger: its counts are about rows of that table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import psycopg
from psycopg import sql

from infra.errors.exceptions import Terminal
from tasks.base.stream_sql import fill_in
from tasks.ledger.names import is_file_ledger

# The quoted names of the tables that rows of streams and files went to, and of those that routes chose.
TABLES_OF_STREAMS = 'SELECT "table" FROM spillway.streams WHERE "table" IS NOT NULL'
TABLES_OF_ROUTES = "SELECT jsonb_object_keys(by_table) FROM spillway.ledger WHERE by_table IS NOT NULL"
_REGISTER = """
    INSERT INTO spillway.streams (name, baseline, "table") VALUES (%(stream)s, %(baseline)s, %(table)s)
        ON CONFLICT (name) DO NOTHING"""
# Waits for loads of the stream, which refer to this row.
_LOCK = """
    SELECT FROM spillway.streams WHERE name = %(stream)s AND "table" IS DISTINCT FROM %(table)s FOR UPDATE"""
_CHANGE = fill_in("""
    UPDATE spillway.streams SET "table" = %(table)s
     WHERE name = %(stream)s
       AND ("table" IS NULL OR NOT EXISTS (SELECT FROM spillway.ledger WHERE stream = {stream_id}))""")
_TABLE = 'SELECT "table" FROM spillway.streams WHERE name = %s'
_FIXED = fill_in("""
    SELECT "table" FROM spillway.streams
     WHERE name = %(stream)s AND EXISTS (SELECT FROM spillway.ledger WHERE stream = {stream_id})""")


_BY_ROUTE = """
    SELECT DISTINCT s.name, t.name FROM spillway.streams AS s
      JOIN spillway.ledger AS l ON l.stream = s.id AND l.by_table IS NOT NULL,
           jsonb_each_text(l.by_table) AS t (name, rows)
     WHERE s.name = ANY(%s) AND t.rows <> '0' ORDER BY 1, 2"""


def register_stream(connection: psycopg.Connection, ledger_name: str, table: str, baseline: int = 0) -> None:
    """Add a stream or a file to `spillway.streams` unless it is already registered.

    `table`: the quoted name of the table that its rows go to (`Table.regclass`). That of a registered stream changes if
    the ledger has no range of it. `baseline`: how many entries had been trimmed or deleted before the stream was first
    seen. Raises `Terminal` if its rows went to another table, and `psycopg.Error`.
    """
    values = {"stream": ledger_name, "baseline": baseline, "table": table}
    with connection.transaction():
        if connection.execute(_REGISTER, values).rowcount == 1:
            return
        if connection.execute(_LOCK, values).rowcount == 1 and connection.execute(_CHANGE, values).rowcount != 1:
            check_table_of_stream(connection, ledger_name, table)


def check_table_of_stream(connection: psycopg.Connection, ledger_name: str, table: str) -> None:
    """Raise `Terminal` if the ledger has a range of the stream or file whose rows went to another table than `table`.

    Raises `psycopg.Error`.
    """
    row = connection.execute(_FIXED, {"stream": ledger_name}).fetchone()
    if row is not None and (reason := other_table(ledger_name, row[0], table)):
        raise Terminal(reason)


def check_routed_tables(connection: psycopg.Connection, tables: Mapping[str, Collection[str]]) -> None:
    """Raise `Terminal` if a route gave rows of a stream to a table to which none go now.

    `tables`: by stream, the quoted names of all tables that its rows go to. Raises `psycopg.Error`.
    """
    for stream, table in connection.execute(_BY_ROUTE, [list(tables)]):
        if table not in tables[stream]:
            raise Terminal(_without_route(stream, table))


def _without_route(stream: str, table: str) -> str:
    old, name = (sql.Literal(text).as_string(None) for text in (table, stream))
    rename = (
        f"UPDATE spillway.ledger SET by_table = by_table - {old} || jsonb_build_object('…', by_table->{old})"  # noqa: S608
        f" WHERE by_table ? {old} AND stream = (SELECT id FROM spillway.streams WHERE name = {name})"
    )
    return (
        f"preflight: {stream}: expected a route to the table {table}, to which rows of it went so far, found none;"
        f" nothing was read or written; name the table in the route in spillway.toml again; or, if it was renamed:"
        f" {rename} with its new quoted name for «…»; or drain the stream from its start into the new tables:"
        f" spillway stream accept-rewind {stream}"
    )


def table_of_stream(connection: psycopg.Connection, ledger_name: str) -> str | None:
    """The quoted name of the table of a stream or file. None if the ledger does not know it. Raises `psycopg.Error`."""
    row = connection.execute(_TABLE, [ledger_name]).fetchone()
    return None if row is None else row[0]


def other_table(ledger_name: str, fixed: str | None, table: str) -> str | None:
    """The error if the rows of a stream or file went to the table `fixed` and now should go to `table`; else None."""
    if fixed in (None, table):
        return None
    name, renamed = (sql.Literal(text).as_string(None) for text in (ledger_name, table))
    rename = f'UPDATE spillway.streams SET "table" = {renamed} WHERE name = {name}'  # noqa: S608
    move = (
        "load the file into the new table with --again"
        if is_file_ledger(ledger_name)
        else f"drain the stream from its start into the new table: spillway stream accept-rewind {ledger_name}"
    )
    return (
        f"{ledger_name}: expected the table {fixed}, to which its rows went so far, found {table}; nothing was loaded;"
        f" name the old table in spillway.toml again; or, if that table was renamed: {rename}; or {move}"
    )
