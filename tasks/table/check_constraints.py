"""Finds the staged rows that CHECK constraints reject, and why, in one query instead of an INSERT for each.

The query only predicts. A row that violates a constraint is inserted by itself, so that its neighbours need no second
attempt. Only the first row of each constraint, if the server rejects it with just the predicted text, speaks for the
others: these are rejected without being tried.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg
from psycopg import sql

from infra.errors.classify import error_scope
from infra.errors.sqlstates import ErrorScope
from infra.tables.table import TableColumn, TableKind
from tasks.table.row_columns import RowColumns
from tasks.table.stage import STAGING_TABLE

NO_SUSPECTS = sql.SQL("""
    DROP TABLE IF EXISTS pg_temp.spillway_suspect;
    CREATE TEMP TABLE spillway_suspect (number BIGINT, rule TEXT, contents TEXT, alone BOOLEAN) ON COMMIT DROP""")
# In the order in which the server checks them. `steady`: the result depends on nothing but the row. What a function
# that is not immutable looks at, such as another table, may change while other rows are inserted.
_RULES = """
    SELECT conname, pg_get_expr(conbin, conrelid),
           NOT EXISTS (
               SELECT FROM pg_depend AS d LEFT JOIN pg_operator AS o
                                                 ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
                 JOIN pg_proc AS p ON p.oid = coalesce(o.oprcode, d.refobjid)
                WHERE d.classid = 'pg_constraint'::regclass AND d.objid = c.oid AND p.provolatile <> 'i'
                  AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)) AS steady
      FROM pg_constraint AS c
     WHERE conrelid = %s::regclass AND contype = 'c' AND to_jsonb(c) ->> 'conenforced' IS DISTINCT FROM 'false'
     ORDER BY conname COLLATE "C\""""
# The names with a blank collide with no column, or the query fails and nothing is predicted.
_FIND = sql.SQL("""
    INSERT INTO pg_temp.spillway_suspect
    SELECT number, rule, contents, contents IS NULL OR row_number() OVER (PARTITION BY rule ORDER BY number) = 1
      FROM (SELECT number, rule, {contents} AS contents
              FROM (SELECT "spillway number" AS number, "spillway rule" AS rule {texts}
                      FROM (SELECT *, CASE {violated} END AS "spillway rule"
                              FROM (SELECT {values}, staged.number AS "spillway number"
                                      FROM {stage} AS staged LEFT JOIN (SELECT * FROM {table} LIMIT 0) AS nothing
                                                                       ON true) AS row
                             WHERE {complete} OFFSET 0) AS judged
                     WHERE "spillway rule" IS NOT NULL OFFSET 0) AS violating) AS shown""")
# As the server shows a row (ExecBuildSlotValueDescription): each value as its type writes it, cut to 64 bytes.
_CONTENTS = sql.SQL("CASE WHEN rule = ANY({steady}::text[]) THEN '(' || {values} || ')' END")
_TEXT = sql.SQL(", CASE num_nulls({column}) WHEN 0 THEN concat({column}) ELSE 'null' END AS {text}")
_CUT = sql.SQL("""
    CASE WHEN octet_length({text}) <= 64 THEN {text}
         WHEN octet_length(left({text}, 64)) = 64 THEN left({text}, 64) || '...'
         ELSE left({text}, (SELECT max(n) FROM generate_series(16, 64) AS n WHERE octet_length(left({text}, n)) <= 64))
              || '...' END""")
_FIRST = sql.SQL("""
    SELECT s.rule, s.number, s.contents, tried.detail
      FROM pg_temp.spillway_suspect AS s JOIN {not_inserted} AS tried USING (number)
     WHERE s.alone AND s.contents IS NOT NULL AND tried.state = '23514' AND tried.rule = s.rule""")
_OTHERS = "SELECT number, rule, contents FROM pg_temp.spillway_suspect WHERE NOT alone AND rule = ANY(%s::text[])"
_UNEXPLAINED = """
    UPDATE pg_temp.spillway_suspect SET alone = true WHERE NOT alone AND rule <> ALL(%s::text[]) RETURNING number"""


@dataclass(frozen=True)
class RejectedLike:
    """A row that was not tried: the server would reject it as the row `first`, with another `detail`. Both numbers."""

    number: int
    first: int
    detail: str


def find_suspects(connection: psycopg.Connection, columns: RowColumns) -> None:
    """List the staged rows that violate a CHECK constraint, for a table without triggers that change rows.

    None if that fails, such as for a constraint on a column that is not sent.
    """
    rules = connection.execute(_RULES, [columns.table.regclass]).fetchall()
    if not rules:
        return
    values, complete = _row(columns)
    steady = [name for name, _, steady in rules if steady and complete]
    texts = {column.name: sql.Identifier(f"t{at}") for at, column in enumerate(columns.table.columns) if steady}
    shown = sql.SQL(" || ', ' || ").join(_CUT.format(text=text) for text in texts.values())
    find = _FIND.format(
        violated=sql.SQL(" ").join(
            sql.SQL("WHEN ({}) IS FALSE THEN {}").format(sql.SQL(check), name) for name, check, _ in rules
        ),
        values=values,
        stage=STAGING_TABLE,
        table=columns.table.identifier,
        complete=_complete(columns),
        contents=_CONTENTS.format(steady=steady, values=shown) if steady else sql.SQL("NULL::text"),
        texts=sql.SQL("").join(_TEXT.format(column=sql.Identifier(name), text=text) for name, text in texts.items()),
    )
    try:
        with connection.transaction():
            connection.execute(find)
    except psycopg.Error as error:
        if error_scope(error) is ErrorScope.SERVER:
            raise


def explain_suspects(
    connection: psycopg.Connection, not_inserted: sql.Identifier
) -> tuple[list[RejectedLike], list[int]]:
    """The suspects that need not be tried, after the first of each constraint was; and the numbers of the others."""
    firsts = {}
    for rule, number, contents, detail in connection.execute(_FIRST.format(not_inserted=not_inserted)).fetchall():
        before, found, after = detail.partition(contents)
        if found:
            firsts[rule] = number, before, after
    explained = []
    for number, rule, contents in connection.execute(_OTHERS, [list(firsts)]).fetchall():
        first, before, after = firsts[rule]
        explained.append(RejectedLike(number, first, f"{before}{contents}{after}"))
    return explained, [number for (number,) in connection.execute(_UNEXPLAINED, [list(firsts)])]


def _row(columns: RowColumns) -> tuple[sql.Composed, bool]:
    """The staged row with the names of the table, and whether it has all columns as an INSERT would fill them."""
    known = columns.table.kind is not TableKind.PARTITIONED  # a row without a partition has another reason
    parts = []
    for column in columns.table.columns:
        name = sql.Identifier(column.name)
        staged = columns.numbered.get(column.name)
        value: sql.Composable = sql.Identifier("staged", staged) if staged else sql.Identifier("nothing", column.name)
        if not staged or column.name in columns.defaulted:
            if column.generated or not _repeatable(column):
                known = False
                if not staged:
                    continue
            elif column.default is not None:
                value = sql.SQL("coalesce({}, ({}))").format(value, sql.SQL(column.default))
        parts.append(sql.SQL("{} AS {}").format(value, name))
    return sql.SQL(", ").join(parts), known


def _repeatable(column: TableColumn) -> bool:
    """Whether the default can be evaluated twice: a number of a sequence would be used up."""
    return column.default is None or not (column.default == "" or re.search(r"\bnextval\(", column.default))


def _complete(columns: RowColumns) -> sql.Composed:
    """Whether no value is missing: the server checks that before all constraints."""
    table, defaulted = columns.table, columns.defaulted
    required = [name for name in columns.names if not (table.by_name[name].nullable or name in defaulted)]
    missing = [sql.SQL("num_nulls({}) = 0").format(sql.Identifier(name)) for name in required]
    return sql.SQL(" AND ").join(missing) if missing else sql.Composed([sql.SQL("true")])
