"""The staging table: a temporary table for rows that cannot be copied straight into their table.

A staged row has three positions, and each has one name: its `number` in the staging table, its `row` in `Batch.rows`,
and the `entry` of the batch that it was made from (see `Batch`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql
from psycopg.abc import PQGen
from psycopg.pq.abc import PGconn
from psycopg.waiting import Ready, Wait

from infra.errors.classify import error_scope
from infra.errors.sqlstates import ErrorScope
from tasks.columns.decode import Fault
from tasks.columns.encode_rows import HEADER, TRAILER, payload
from tasks.columns.routing import TableRows
from tasks.table.check_types import find_mistyped
from tasks.table.row_columns import RowColumns
from tasks.table.time_slices import TimeSlice, time_slices

STAGING_TABLE = sql.Identifier("pg_temp", "spillway_stage")
_COPY = sql.SQL("COPY {table} ({columns}) FROM STDIN (FORMAT {format})")
_SEND_BYTES = 8 << 20  # as many as a batch has, unless it has a large entry
# The columns have the types that they have in the table now, but no NOT NULL, no default, and none of the user's names,
# so that nothing can collide with `number`. The table lives for one transaction, since a connection pooler may give the
# session to another client. `temp_buffers` keeps it in memory; it cannot be changed if another client of the pool has
# already used temporary tables in this session.
_MAKE: LiteralString = """
    DO $$ BEGIN
        PERFORM set_config('temp_buffers', '32MB', true);
    EXCEPTION WHEN invalid_parameter_value THEN NULL;
    END $$;
    DROP TABLE IF EXISTS {stage};
    CREATE TEMP TABLE spillway_stage ON COMMIT DROP AS SELECT {columns} FROM {table} WITH NO DATA;
    ALTER TABLE {stage} ADD COLUMN number BIGINT GENERATED ALWAYS AS IDENTITY;
    """
# The default of a column of the key, without which it would not be known which rows share a key.
_FILL: LiteralString = "UPDATE {stage} SET {fill}"
_EMPTY = sql.SQL("TRUNCATE {}").format(STAGING_TABLE)
# The number grows by one for each row, and also for the rows of a COPY that failed.
_LAST_NUMBER = "SELECT currval(pg_get_serial_sequence('pg_temp.spillway_stage', 'number'))"

# Matches the context of a COPY error: the line, and the column if there is one. Works in every language of the server,
# since only the names and the number count. If the number comes first, nothing matches, and the span is halved.
_LINE = r"\bspillway_stage\b\D*(\d+)(?:.*?\b({names})\b)?"
# A COPY that fails costs 1 ms. The check of all rows costs as much as a few hundred of them have cost the COPY.
_FEW_FAILURES = 8
_REASON_LENGTH = 2_000  # characters: a trigger may raise a message of any length


def copy_rows(
    connection: psycopg.Connection, table_rows: TableRows, rows: Any, into: sql.Identifier | None = None
) -> int:
    """COPY encoded rows of a batch into its table, or into another one with the same columns.

    Returns how many rows the server inserted: fewer than were sent if a trigger skipped some. Raises `psycopg.Error`.
    """
    columns = RowColumns.of(table_rows)
    return _copy(connection, columns, into or columns.table.identifier, columns.listed, [rows])


def copy_all(connection: psycopg.Connection, batches: Sequence[TableRows]) -> int:
    """`copy_rows` of several batches for one table, with one COPY for those that have the same columns."""
    by_columns: dict[RowColumns, list[Any]] = {}
    for table_rows in batches:
        by_columns.setdefault(RowColumns.of(table_rows), []).append(table_rows.encoded.rows)
    return sum(
        _copy(connection, columns, columns.table.identifier, columns.listed, rows)
        for columns, rows in by_columns.items()
    )


def _copy(
    connection: psycopg.Connection,
    columns: RowColumns,
    table: sql.Identifier,
    listed: sql.Composed,
    arrays: Sequence[Any],
) -> int:
    statement = _COPY.format(table=table, columns=listed, format=columns.copy_format)
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            if columns.binary:
                copy.write(HEADER)
            for rows in arrays:
                write_rows(connection, copy, rows)
            if columns.binary:
                copy.write(TRAILER)
        return cursor.rowcount


def write_rows(connection: psycopg.Connection, copy: psycopg.Copy, rows: pa.Array) -> None:
    """Send encoded rows. libpq keeps a copy of what the server has not taken yet, which could be all of it."""
    data = payload(rows)
    for start in range(0, len(data), _SEND_BYTES):
        if start:
            connection.wait(_flush(connection.pgconn))
        copy.write(data[start : start + _SEND_BYTES])


def _flush(pgconn: PGconn) -> PQGen[None]:
    """Wait until the server has taken everything."""
    while pgconn.flush():
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()


@dataclass(frozen=True)
class RejectedRow(Fault):
    """A row that the server rejects. `state`: the SQLSTATE.

    `reason` is the server's message, which may quote the row: it belongs in the quarantine and nowhere else.
    """

    state: str = ""


def rejected_row(entry: int, column: str, message: str, detail: str, state: str) -> RejectedRow:
    """The fault of an entry whose row the server rejects."""
    reason = message + (f": {detail}" if detail else "")
    if len(reason) > _REASON_LENGTH:
        reason = reason[:_REASON_LENGTH] + "…"
    return RejectedRow(entry, column, f"{reason} [{state}]", state=state)


class StagingTable:
    """Rows of a batch in the staging table. `rejected`: the fault of each row that the server rejects, by row."""

    def __init__(self, connection: psycopg.Connection, table_rows: TableRows) -> None:
        self._connection = connection
        self._table_rows = table_rows
        self._rows: NDArray[np.int64] = np.zeros(0, np.int64)
        self._numbers: NDArray[np.int64] = np.zeros(0, np.int64)
        self._row_of: dict[int, int] = {}
        self._made = False
        self.columns = RowColumns.of(table_rows)
        self.rejected: dict[int, Fault] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def fill(self, start: int, stop: int) -> None:
        """Replace the staged rows by those from `start` to before `stop`, except those that a type rejects.

        Runs in the caller's transaction. Tries all rows in one COPY, fewer after a rejection and more after a success,
        so that each rejected row costs a short COPY, not one of the whole batch. After a few rejections the server
        names the others all at once; see `check_types`. Raises `psycopg.Error`.
        """
        make = sql.SQL(_MAKE).format(
            stage=STAGING_TABLE, columns=self.columns.named_as_staged, table=self.columns.table.identifier
        )
        self._connection.execute(_EMPTY if self._made else make)
        self._made = True
        rows, numbers = [], []
        pending = self._not_rejected(np.arange(start, stop))
        at, size, bad = 0, len(pending), len(pending)  # `bad`: where the last COPY rejected a row
        failures = 0
        while at < len(pending):
            if int(pending[at]) in self.rejected:
                at, bad = at + 1, len(pending)
                continue
            if failures == _FEW_FAILURES:
                self._reject_mistyped(self._not_rejected(pending[at:]))
                pending = self._not_rejected(pending[at:])
                at, size, bad, failures = 0, len(pending), len(pending), failures + 1
                continue
            end = min(at + size, bad)
            try:
                with self._connection.transaction():
                    self._copy_into(STAGING_TABLE, pending[at:end])
            except psycopg.Error as error:
                if error_scope(error) is not ErrorScope.ROW:
                    raise
                failures += 1
                bad = at + self._record_rejection(error, pending[at:end])
                size = max(1, 2 * (bad - at)) if bad < end else (end - at + 1) // 2
                bad = bad if bad < end else len(pending)
            else:
                found = self._connection.execute(_LAST_NUMBER).fetchone()
                assert found is not None  # a function has one row
                rows.append(pending[at:end])
                numbers.append(np.arange(found[0] - (end - at), found[0]) + 1)
                at, size = end, 2 * size
        for fill in self.columns.key_defaults:
            self._connection.execute(sql.SQL(_FILL).format(stage=STAGING_TABLE, fill=fill))
        self._rows = np.concatenate([np.zeros(0, np.int64), *rows])
        self._numbers = np.concatenate([np.zeros(0, np.int64), *numbers])
        self._row_of = {}

    def row(self, number: int) -> int:
        """The row of the batch that has this number."""
        if not self._row_of:  # a search for each costs as much as 30 of its lookups, and half of the rows may be asked
            self._row_of = dict(zip(self._numbers.tolist(), self._rows.tolist(), strict=True))
        return self._row_of[number]

    def numbers(self, rows: Sequence[int]) -> list[int]:
        """The numbers of these rows of the batch. All of them must be staged."""
        found: list[int] = self._numbers[np.searchsorted(self._rows, np.array(rows, np.int64))].tolist()
        return found

    def time_slices(self, rows: TimeSlice) -> list[TimeSlice]:
        """Staged rows cut by `tasks.table.time_slices`; all together if equal rows may have different times."""
        table, named = self.columns.table, self.columns.numbered.get(self.columns.table.time or "")
        by_time = table.time in self.columns.key or table.time not in self.columns.defaulted
        if named is None or not by_time:
            return [rows]
        number, time = sql.Identifier("number"), sql.Identifier(named)
        return time_slices(self._connection, table, rows, number, time, STAGING_TABLE)

    def entry(self, number: int) -> int:
        """The position in the batch of the entry whose row has this number."""
        return int(self._table_rows.encoded.row_entry[self.row(number)])

    def reject(self, number: int, fault: Fault) -> None:
        """Record the fault of the row with this number."""
        self.rejected[self.row(number)] = fault

    def _not_rejected(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows[~np.isin(rows, list(self.rejected))] if self.rejected else rows

    def _copy_into(self, table: sql.Identifier, rows: NDArray[np.int64]) -> None:
        """COPY these rows of the batch, in ascending order."""
        encoded = self._table_rows.encoded.rows
        first, last = int(rows[0]), int(rows[-1])
        some = encoded[first : last + 1] if last - first < len(rows) else encoded.take(pa.array(rows))
        _copy(self._connection, self.columns, table, self.columns.staged, [some])

    def _reject_mistyped(self, rows: NDArray[np.int64]) -> None:
        """Record those of the rows that a type rejects."""
        if not len(rows):
            return
        for one in find_mistyped(self._connection, self.columns, lambda table: self._copy_into(table, rows)):
            self._reject(int(rows[one.position]), one.column, one.message, one.detail, one.state)

    def _record_rejection(self, error: psycopg.Error, rows: NDArray[np.int64]) -> int:
        """Record the row that a COPY error names, and return its position. Returns their number if it names none."""
        names = self.columns.originals
        line = re.search(_LINE.format(names="|".join(names)), error.diag.context or "")
        position = 0 if len(rows) == 1 else int(line[1]) - 1 if line else len(rows)
        if not 0 <= position < len(rows):
            return len(rows)
        diag = error.diag
        column = names[line[2]] if line and line[2] else diag.column_name or ""
        message, detail = diag.message_primary or "", diag.message_detail or ""
        self._reject(int(rows[position]), column, message, detail, error.sqlstate or "")
        return position

    def _reject(self, row: int, column: str, message: str, detail: str, state: str) -> None:
        entry = int(self._table_rows.encoded.row_entry[row])
        self.rejected[row] = rejected_row(entry, column, message, detail, state)
