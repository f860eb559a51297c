"""The temporary table through which rows go that cannot be copied straight into `events`, a span at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from tasks.columns.decode import Fault
from tasks.columns.encode import COLUMNS, HEADER, TRAILER, payload
from tasks.read import Batch

COLUMN_LIST = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
STAGE = sql.Identifier("pg_temp", "spillway_stage")
_COPY = sql.SQL("COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)")
_COPY_STAGE = _COPY.format(table=STAGE, columns=COLUMN_LIST)
COPY_EVENTS = _COPY.format(table=sql.Identifier("events"), columns=COLUMN_LIST)
# Made once a session: what a session makes and drops again bloats the catalog. `place` grows with the order of COPY.
_MAKE = """
    CREATE TEMP TABLE IF NOT EXISTS spillway_stage (LIKE events, place BIGINT GENERATED ALWAYS AS IDENTITY)
        ON COMMIT DELETE ROWS"""
_EMPTY = sql.SQL("TRUNCATE {}").format(STAGE)

_LINE = re.compile(r"COPY \S+, line (\d+)(?:, column (\w+))?")


def copy_rows(connection: psycopg.Connection, statement: sql.Composed, rows: Any) -> int:
    """Send encoded rows (see `tasks.columns.encode`); returns how many the server took. Raises `psycopg.Error`."""
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            copy.write(HEADER)
            copy.write(payload(rows))
            copy.write(TRAILER)
        return cursor.rowcount


def blames_a_value(error: psycopg.Error) -> bool:
    """Whether the server refused a value, so that the other rows may go in.

    Class 22 is data exception, 54 program limit exceeded (nesting too deep, an index row too large),
    23502 not null. https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    state = error.sqlstate or ""
    return state[:2] in ("22", "54") or state == "23502"


class Stage:
    """Rows of a batch in the temporary table. `refused`: by row, why the server does not take it."""

    def __init__(self, connection: psycopg.Connection, batch: Batch) -> None:
        self._connection = connection
        self._batch = batch
        self.refused: dict[int, Fault] = {}

    def run(self, start: int, stop: int, work: Callable[[int, int], None]) -> None:
        """Copy the rows from `start` to before `stop` and do `work(first, end)` with those that are in the table.

        A span of them at a time, in order: all at first, less after a refusal, more after a success, so that a batch
        in which many are refused costs each of them a span and not the rest of the batch. What `work` does for a span
        with a row that the server refuses is undone. In the caller's transaction; raises `psycopg.Error`.
        """
        if start < stop:
            self._connection.execute(_MAKE)
        span = stop - start
        while start < stop:
            if start in self.refused:
                start += 1
                continue
            end = min(start + span, stop, *(row for row in self.refused if row > start))
            try:
                with self._connection.transaction():
                    copy_rows(self._connection, _COPY_STAGE, self._batch.rows[start:end])
                    work(start, end)
                    self._connection.execute(_EMPTY)
            except psycopg.Error as error:
                if not blames_a_value(error):
                    raise
                span = self._set_apart(error, start, end)
            else:
                start, span = end, 2 * span

    def _set_apart(self, error: psycopg.Error, start: int, end: int) -> int:
        """Note the row that the server refused, where it is known; returns how many rows to try next."""
        # COPY tells the line; an index that refuses the row later does not, and is asked by halves.
        line = _LINE.search(error.diag.context or "")
        row = start if end - start == 1 else start + int(line[1]) - 1 if line else -1
        if not start <= row < end:
            return (end - start + 1) // 2
        reason = f"{error.diag.message_primary}" + (f": {d}" if (d := error.diag.message_detail) else "")
        column = (line and line[2]) or error.diag.column_name or ""
        self.refused[row] = Fault(int(self._batch.row_entry[row]), column, f"{reason} [{error.sqlstate}]")
        return max(1, 2 * (row - start))
