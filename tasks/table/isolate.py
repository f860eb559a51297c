"""Put staged rows into `events` one span after the other, and leave out those that the server rejects.

In one statement on the server, since a batch may have 25,000 such rows: no round trip for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.errors.classify import error_scope
from infra.errors.sqlstates import QUERY_CANCELED, ErrorScope, classes_of
from infra.table import events_table
from tasks.table.row_columns import RowColumns
from tasks.table.stage import STAGING_TABLE, RejectedRow, StagingTable, rejected_row

_LEFT = sql.Identifier("pg_temp", "spillway_left")
# With a primary key, so that a span of few rows is found without reading all that is staged.
_PREPARE = sql.SQL("""
    CREATE UNIQUE INDEX IF NOT EXISTS spillway_stage_number ON {stage} (number);
    ANALYZE {stage};
    DROP TABLE IF EXISTS {left};
    CREATE TEMP TABLE spillway_left (number BIGINT, state TEXT, words TEXT, detail TEXT, field TEXT) ON COMMIT DROP
    """).format(stage=STAGING_TABLE, left=_LEFT)

# All rows at first. A span that fails, or of which only some rows go in, is undone and halved. It grows again after as
# many successes as it has rows, four at most: where every other row is bad, most spans are of one row. Deferred
# constraints are checked at the end of each INSERT: at COMMIT nobody could say which row they are about.
_PUT = """
DO $spillway$
DECLARE
    _numbers bigint[];
    _at int := 1;
    _size int;
    _streak int := 0;
    _found bigint;
    _works boolean := false;
    _refused int := 0;
    _state text;
    _words text;
    _detail text;
    _field text;
BEGIN
    SET CONSTRAINTS ALL IMMEDIATE;
    SELECT coalesce(array_agg(number ORDER BY time, event_id, number), '{{}}') INTO _numbers FROM {stage} {which};
    _size := greatest(1, cardinality(_numbers));
    WHILE _at <= cardinality(_numbers) LOOP
        _size := least(_size, cardinality(_numbers) - _at + 1);
        BEGIN
            INSERT INTO {target} ({listed} {number}) OVERRIDING SYSTEM VALUE
            SELECT {staged} {staged_number} FROM {stage} WHERE number = ANY(_numbers[_at:_at + _size - 1])
             ORDER BY time, event_id, number {on_conflict};
            GET DIAGNOSTICS _found = ROW_COUNT;
            IF {exact} AND _found NOT IN (0, _size) THEN
                RAISE EXCEPTION USING ERRCODE = 'SPLIT';
            END IF;
            IF _found = 0 THEN
                INSERT INTO {left} (number) SELECT unnest(_numbers[_at:_at + _size - 1]);
            END IF;
            _works := true;
            _at := _at + _size;
            _streak := _streak + 1;
            IF _streak >= least(_size, 4) THEN
                _size := 2 * _size;
                _streak := 0;
            END IF;
        EXCEPTION WHEN {caught} THEN
            GET STACKED DIAGNOSTICS _state = RETURNED_SQLSTATE, _words = MESSAGE_TEXT,
                                    _detail = PG_EXCEPTION_DETAIL, _field = COLUMN_NAME;
            IF left(_state, 2) = ANY({server_classes}::text[]) AND NOT _state = ANY({raised}::text[]) THEN
                RAISE;
            END IF;
            _streak := 0;
            IF _size > 1 THEN
                _size := _size / 2;
            ELSE
                _refused := _refused + 1;
                IF left(_state, 2) = ANY({statement_classes}::text[]) AND NOT _state = ANY({raised}::text[])
                   AND NOT _works AND (_refused >= {hopeless} OR _at = cardinality(_numbers)) THEN
                    RAISE;
                END IF;
                INSERT INTO {left} VALUES (_numbers[_at], _state, _words, _detail, _field);
                _at := _at + 1;
            END IF;
        END;
    END LOOP;
END $spillway$"""
_FETCH = sql.SQL("SELECT number, state, words, detail, field FROM {} ORDER BY number").format(_LEFT)
_HOPELESS = 32  # rows refused for a reason that is about the statement, before any went in


@dataclass
class RowOutcomes:
    """What became of staged rows: `inserted` of them went in. `left`: the numbers of those that the server neither put
    in nor refused, because their key is there or a trigger skipped them. `refused`: by number, why."""

    inserted: int = 0
    left: list[int] = field(default_factory=list)
    refused: dict[int, RejectedRow] = field(default_factory=dict)


@dataclass(frozen=True)
class InsertTarget:
    """A table to put staged rows with these `columns` into. `number`: its column for their numbers, if it has one.
    `exact`: which rows went in is to be known, so a span of which only some did is undone and halved."""

    table: sql.Identifier
    columns: RowColumns
    number: sql.Identifier | None = None
    on_conflict: LiteralString = ""
    exact: bool = False


def insert_each(
    connection: psycopg.Connection,
    stage: StagingTable,
    only: Sequence[int] | None = None,
    cause: psycopg.Error | None = None,
) -> RowOutcomes:
    """Put into `events` what is staged, or the rows with the numbers `only`, in the caller's transaction. `cause`: what
    they met before, all together.

    Raises `psycopg.Error` for what is not about a row; see `infra.errors.classify.error_scope`.
    """
    # `ON CONFLICT` names our key: a conflict with any other unique index is an error, and no duplicate of ours.
    conflict: LiteralString = "ON CONFLICT (event_id, time) DO NOTHING"
    target = InsertTarget(events_table(), stage.columns, on_conflict=conflict, exact=True)
    put_each(connection, target, only, cause)
    return _fetch(connection, stage, len(stage) if only is None else len(only))


def put_each(
    connection: psycopg.Connection, target: InsertTarget, only: Sequence[int] | None, cause: psycopg.Error | None = None
) -> None:
    """Put staged rows into any table, and note those left out. As `insert_each`."""
    raised: set[str] = set()
    while True:
        if cause is not None and cause.sqlstate and error_scope(cause) is ErrorScope.ROW:
            raised.add(cause.sqlstate)
        try:
            with connection.transaction():
                connection.execute(_PREPARE)
                connection.execute(_statement(target, only, raised))
                return
        except psycopg.Error as error:
            # A trigger may raise a deadlock or a timeout, too. That one came from a trigger can be seen from here only,
            # so from now on this SQLSTATE is taken for a row's fault.
            if error_scope(error) is not ErrorScope.ROW or error.sqlstate in raised:
                raise
            cause = error


def _statement(target: InsertTarget, only: Sequence[int] | None, raised: set[str]) -> sql.Composed:
    which = sql.SQL("") if only is None else sql.SQL("WHERE number = ANY({}::bigint[])").format(list(only))
    # OTHERS has neither of the two. A cancellation is a statement's timeout or a person's wish, unless a trigger raised
    # it.
    caught = "others OR assert_failure" + (" OR query_canceled" if QUERY_CANCELED in raised else "")
    return sql.SQL(_PUT).format(
        stage=STAGING_TABLE,
        target=target.table,
        number=sql.SQL(", {}").format(target.number) if target.number else sql.SQL(""),
        staged_number=sql.SQL(", number" if target.number else ""),
        on_conflict=sql.SQL(target.on_conflict),
        exact=target.exact,
        left=_LEFT,
        listed=target.columns.listed,
        staged=target.columns.staged,
        which=which,
        caught=sql.SQL(caught),
        server_classes=classes_of(ErrorScope.SERVER),
        statement_classes=classes_of(ErrorScope.STATEMENT),
        raised=sorted(raised),
        hopeless=_HOPELESS,
    )


def _fetch(connection: psycopg.Connection, stage: StagingTable, count: int) -> RowOutcomes:
    result = RowOutcomes()
    for number, state, words, detail, column in connection.execute(_FETCH).fetchall():
        if state is None:
            result.left.append(number)
        else:
            result.refused[number] = rejected_row(stage.entry(number), column or "", words or "", detail or "", state)
    result.inserted = count - len(result.left) - len(result.refused)
    return result
