"""Insert staged rows span by span, without those that the server rejects.

The loop runs on the server, in one DO statement: a batch may have 25,000 rejected rows, too many for a round trip each.
Rows that a CHECK constraint rejects are mostly found before, all at once; see `check_constraints`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from infra.errors.classify import error_scope
from infra.errors.sqlstates import QUERY_CANCELED, ErrorScope, classes_of
from infra.timescaledb import CHUNK_SCHEMA
from tasks.table.check_constraints import NO_SUSPECTS, RejectedLike, explain_suspects, find_suspects
from tasks.table.row_columns import RowColumns
from tasks.table.stage import STAGING_TABLE, RejectedRow, StagingTable, rejected_row

_NOT_INSERTED = sql.Identifier("pg_temp", "spillway_not_inserted")
# `chunk`: the name of the chunk that the error names. `rule`: of the constraint.
_PREPARE = sql.SQL("""
    DROP TABLE IF EXISTS {not_inserted};
    CREATE TEMP TABLE spillway_not_inserted
        (number BIGINT, state TEXT, message TEXT, detail TEXT, field TEXT, chunk TEXT, rule TEXT) ON COMMIT DROP
    """).format(not_inserted=_NOT_INSERTED)

# Starts with all rows but the suspects as one span; each suspect that is tried is a span of its own. A span that fails
# is undone and halved. From the first failure on, a unique index finds a span of a few rows without reading the whole
# staging table. The size doubles again after as many successes as the span has rows, and one more, four at most: if
# every other row is bad, most spans hold one row. Deferred constraints are checked at the end of each INSERT: at COMMIT
# the server no longer reports the row.
_PUT = """
DO $spillway$
DECLARE
    _numbers bigint[];
    _at int := 1;
    _size int;
    _good int;  -- those before the suspects
    _streak int := 0;
    _found bigint;
    _works boolean := false;
    _rejected int := 0;
    _state text;
    _message text;
    _detail text;
    _field text;
    _schema text;
    _chunk text;
    _rule text;
    _indexed boolean := false;
BEGIN
    SET CONSTRAINTS ALL IMMEDIATE;
    SELECT coalesce(array_agg(number ORDER BY suspect.number IS NOT NULL, {order}), '{{}}'),
           count(*) FILTER (WHERE suspect.number IS NULL)
      INTO _numbers, _good FROM {stage} LEFT JOIN pg_temp.spillway_suspect AS suspect USING (number)
     WHERE coalesce(suspect.alone, true) {which};
    _size := greatest(1, _good);
    WHILE _at <= cardinality(_numbers) LOOP
        _size := CASE WHEN _at > _good THEN 1 ELSE least(_size, _good - _at + 1) END;
        BEGIN
            INSERT INTO {target} ({listed} {number}) OVERRIDING SYSTEM VALUE
            SELECT {values} {staged_number} FROM {stage}
             WHERE number = ANY(CASE _size WHEN 1 THEN ARRAY[_numbers[_at]] ELSE _numbers[_at:_at + _size - 1] END)
             ORDER BY {order} {on_conflict};
            GET DIAGNOSTICS _found = ROW_COUNT;
            IF {exact} AND _found NOT IN (0, _size) THEN
                RAISE EXCEPTION USING ERRCODE = 'SPLIT';
            END IF;
            IF _found = 0 THEN
                INSERT INTO {not_inserted} (number) SELECT unnest(_numbers[_at:_at + _size - 1]);
            END IF;
            _works := true;
            _at := _at + _size;
            _streak := _streak + 1;
            IF _streak >= least(_size + 1, 4) THEN
                _size := 2 * _size;
                _streak := 0;
            END IF;
        EXCEPTION WHEN {caught} THEN
            GET STACKED DIAGNOSTICS _state = RETURNED_SQLSTATE, _message = MESSAGE_TEXT,
                                    _detail = PG_EXCEPTION_DETAIL, _field = COLUMN_NAME, _rule = CONSTRAINT_NAME,
                                    _schema = SCHEMA_NAME, _chunk = TABLE_NAME;
            IF left(_state, 2) = ANY({server_classes}::text[]) AND NOT _state = ANY({raised}::text[]) THEN
                RAISE;
            END IF;
            _streak := 0;
            IF NOT _indexed THEN
                CREATE UNIQUE INDEX IF NOT EXISTS spillway_stage_number ON {stage} (number);
                ANALYZE {stage};
                _indexed := true;
            END IF;
            IF _size > 1 THEN
                _size := _size / 2;
            ELSE
                _rejected := _rejected + 1;
                IF left(_state, 2) = ANY({statement_classes}::text[]) AND NOT _state = ANY({raised}::text[])
                   AND NOT _works AND (_rejected >= {give_up_after} OR _at = cardinality(_numbers)) THEN
                    RAISE;
                END IF;
                INSERT INTO {not_inserted} VALUES (_numbers[_at], _state, _message, _detail, _field,
                                                  CASE _schema WHEN {chunks} THEN _chunk END, _rule);
                _at := _at + 1;
            END IF;
        END;
    END LOOP;
END $spillway$"""
_FETCH = sql.SQL("SELECT number, state, message, detail, field, chunk FROM {} ORDER BY number").format(_NOT_INSERTED)
# The statement fails if its first rows are all rejected for a reason that concerns the statement: after this many rows.
_GIVE_UP_AFTER = 32


@dataclass(frozen=True)
class RowOutcomes:
    """What happened to staged rows. `inserted`: how many were. `rejected`: by number, why the server rejects a row.

    `not_inserted`: the numbers of the rows whose key the table has, or that a trigger skipped.
    """

    inserted: int
    not_inserted: Sequence[int]
    rejected: Mapping[int, RejectedRow]


@dataclass(frozen=True)
class InsertTarget:
    """A table that staged rows with these `columns` are put into.

    `number`: its column for the numbers of the rows, if it has one. `exact`: the caller must know which rows were
    inserted, so a span that was only partly inserted is undone and halved.
    """

    table: sql.Identifier
    columns: RowColumns
    number: sql.Identifier | None = None
    on_conflict: sql.Composable | None = None
    exact: bool = False


def insert_each(
    connection: psycopg.Connection,
    stage: StagingTable,
    only: Sequence[int] | None = None,
    cause: psycopg.Error | None = None,
) -> RowOutcomes:
    """Insert the staged rows, or those with the numbers `only`, into their table, in the caller's transaction.

    `cause`: the error that inserting them all together raised. Raises `psycopg.Error` for an error that does not
    concern a row; see `infra.errors.classify.error_scope`.
    """
    # ON CONFLICT names our key: a conflict with any other unique index is an error, not a duplicate.
    columns = stage.columns
    conflict = sql.SQL("ON CONFLICT ({}) DO NOTHING" if columns.key else "{}").format(columns.key_listed)
    target = InsertTarget(columns.table.identifier, columns, on_conflict=conflict, exact=True)
    explained = insert_each_into(connection, target, only, cause)
    return _fetch(connection, stage, len(stage) if only is None else len(only), explained)


def insert_each_into(
    connection: psycopg.Connection, target: InsertTarget, only: Sequence[int] | None, cause: psycopg.Error | None = None
) -> Sequence[RejectedLike]:
    """Insert staged rows into any table, and list those not inserted in a temporary table. See `insert_each`.

    Returns the rows that were not tried because they would be rejected; they are not in the list.
    """
    raised: set[str] = set()
    violates_check = isinstance(cause, psycopg.errors.CheckViolation)
    while True:
        if cause is not None and cause.sqlstate and error_scope(cause) is ErrorScope.ROW:
            raised.add(cause.sqlstate)
        try:
            with connection.transaction():
                connection.execute(_PREPARE)
                connection.execute(NO_SUSPECTS)
                if violates_check and only is None:
                    find_suspects(connection, target.columns)
                connection.execute(_statement(target, only, raised))
                explained: Sequence[RejectedLike] = ()
                if violates_check:
                    explained, others = explain_suspects(connection, _NOT_INSERTED)
                    if others:
                        connection.execute(_statement(target, others, raised))
                return explained
        except psycopg.Error as error:
            # A trigger may also raise the SQLSTATE of a deadlock or a timeout. Only the context of the
            # error shows that. From now on the DO statement treats this SQLSTATE as the fault of a row.
            if error_scope(error) is not ErrorScope.ROW or error.sqlstate in raised:
                raise
            cause = error


def _statement(target: InsertTarget, only: Sequence[int] | None, raised: set[str]) -> sql.Composed:
    which = sql.SQL("") if only is None else sql.SQL("AND number = ANY({}::bigint[])").format(list(only))
    # OTHERS does not catch these two. A cancellation is a statement timeout or the request of a user, unless a trigger
    # raised it.
    caught = "others OR assert_failure" + (" OR query_canceled" if QUERY_CANCELED in raised else "")
    return sql.SQL(_PUT).format(
        stage=STAGING_TABLE,
        target=target.table,
        number=sql.SQL(", {}").format(target.number) if target.number else sql.SQL(""),
        staged_number=sql.SQL(", number" if target.number else ""),
        on_conflict=target.on_conflict or sql.SQL(""),
        exact=target.exact,
        not_inserted=_NOT_INSERTED,
        listed=target.columns.listed,
        values=target.columns.values,
        order=target.columns.order,
        which=which,
        caught=sql.SQL(caught),
        server_classes=classes_of(ErrorScope.SERVER),
        statement_classes=classes_of(ErrorScope.STATEMENT),
        raised=sorted(raised),
        give_up_after=_GIVE_UP_AFTER,
        chunks=CHUNK_SCHEMA,
    )


def _fetch(
    connection: psycopg.Connection, stage: StagingTable, count: int, explained: Sequence[RejectedLike]
) -> RowOutcomes:
    not_inserted: list[int] = []
    rejected: dict[int, RejectedRow] = {}
    messages: dict[int, tuple[str, str, str]] = {}
    for number, state, message, detail, column, chunk in connection.execute(_FETCH).fetchall():
        if state is None:
            not_inserted.append(number)
        else:
            if chunk:  # the user knows the table, and one reason is not as many as there are chunks
                message = message.replace(f'"{chunk}"', f'"{stage.columns.table.name}"', 1)
            messages[number] = column or "", message or "", state
            rejected[number] = rejected_row(stage.entry(number), column or "", message or "", detail or "", state)
    for row in explained:
        column, message, state = messages[row.first]
        rejected[row.number] = rejected_row(stage.entry(row.number), column, message, row.detail, state)
    return RowOutcomes(count - len(not_inserted) - len(rejected), not_inserted, rejected)
