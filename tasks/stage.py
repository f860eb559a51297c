"""The temporary table through which rows go that cannot be copied straight into `events`, a span at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, LiteralString

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from infra.table import events_table, on_events
from tasks.columns.decode import Fault
from tasks.columns.encode import COLUMNS, HEADER, TRAILER, payload
from tasks.read import Batch

COLUMN_LIST = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
STAGE = sql.Identifier("pg_temp", "spillway_stage")
_COPY = sql.SQL("COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)")
_COPY_STAGE = _COPY.format(table=STAGE, columns=COLUMN_LIST)
# Made once a session: what a session makes and drops again bloats the catalog. `place` grows by one with each row, and
# by some more with a COPY that failed.
_MAKE: LiteralString = """
    CREATE TEMP TABLE IF NOT EXISTS spillway_stage (LIKE {events}, place BIGINT GENERATED ALWAYS AS IDENTITY)
        ON COMMIT DELETE ROWS"""
_EMPTY = sql.SQL("TRUNCATE {}").format(STAGE)

IN_SPAN = sql.SQL("place BETWEEN %(first_place)s AND %(last_place)s")

_LINE = re.compile(r"COPY \S+, line (\d+)(?:, column (\w+))?")


def copy_events() -> sql.Composed:
    """The COPY of encoded rows straight into `events`."""
    return _COPY.format(table=events_table(), columns=COLUMN_LIST)


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
    A document of more parts than fit a gigabyte is refused as an internal error, by these words alone.
    """
    state = error.sqlstate or ""
    too_large = state == "XX000" and "invalid memory alloc request size" in str(error)
    return state[:2] in ("22", "54") or state == "23502" or too_large


@dataclass(frozen=True)
class Span:
    """Rows in the temporary table: those from place `first` to place `last`, `count` of them."""

    first: int
    last: int
    count: int

    @property
    def parameters(self) -> dict[str, int]:
        """Of `IN_SPAN`."""
        return {"first_place": self.first, "last_place": self.last}


class Stage:
    """Rows of a batch in the temporary table. `refused`: by row, why the server does not take it."""

    def __init__(self, connection: psycopg.Connection, batch: Batch) -> None:
        self._connection = connection
        self._batch = batch
        self._rows: NDArray[np.int64] = np.zeros(0, np.int64)
        self._places: NDArray[np.int64] = np.zeros(0, np.int64)
        self.refused: dict[int, Fault] = {}

    def run(self, start: int, stop: int, work: Callable[[Span], None]) -> None:
        """Copy the rows from `start` to before `stop`, and do `work` with a span of the temporary table, all of it at
        first, in order. What `work` does for a span with a row that the server refuses is undone, and halves are tried.

        In the caller's transaction; raises `psycopg.Error`.
        """
        if start >= stop:
            return
        self._connection.execute(on_events(_MAKE))
        self._fill(start, stop)
        at, size = 0, len(self._rows)
        while at < len(self._rows):
            end = min(at + size, len(self._rows))
            try:
                with self._connection.transaction():
                    work(Span(int(self._places[at]), int(self._places[end - 1]), end - at))
            except psycopg.Error as error:
                if not blames_a_value(error):
                    raise
                size = (end - at + 1) // 2
                if end - at == 1:
                    self._refuse(int(self._rows[at]), error)
                    at += 1
            else:
                at, size = end, 2 * size
        self._connection.execute(_EMPTY)

    def row(self, place: int) -> int:
        """The row of the batch at a place in the temporary table."""
        return int(self._rows[np.searchsorted(self._places, place)])

    def _fill(self, start: int, stop: int) -> None:
        """Copy all that the server takes: all rows at first, fewer after a refusal, more after a success, so that a
        batch in which many are refused costs each of them a short COPY and not the rest of the batch."""
        rows, places = [], []
        size = stop - start
        while start < stop:
            if start in self.refused:
                start += 1
                continue
            end = min(start + size, stop, *(row for row in self.refused if row > start))
            try:
                with self._connection.transaction():
                    copy_rows(self._connection, _COPY_STAGE, self._batch.rows[start:end])
            except psycopg.Error as error:
                if not blames_a_value(error):
                    raise
                size = self._blame(error, start, end)
            else:
                found = self._connection.execute("SELECT lastval()").fetchone()
                assert found is not None  # a function has one row
                rows.append(np.arange(start, end))
                places.append(np.arange(found[0] - (end - start), found[0]) + 1)
                start, size = end, 2 * size
        self._rows = np.concatenate([np.zeros(0, np.int64), *rows])
        self._places = np.concatenate([np.zeros(0, np.int64), *places])

    def _blame(self, error: psycopg.Error, start: int, end: int) -> int:
        """Note the row that COPY names; returns how many rows to copy next."""
        line = _LINE.search(error.diag.context or "")
        row = start if end - start == 1 else start + int(line[1]) - 1 if line else -1
        if not start <= row < end:
            return (end - start + 1) // 2
        self._refuse(row, error)
        return max(1, 2 * (row - start))

    def _refuse(self, row: int, error: psycopg.Error) -> None:
        named = _LINE.search(error.diag.context or "")
        reason = f"{error.diag.message_primary}" + (f": {d}" if (d := error.diag.message_detail) else "")
        column = (named and named[2]) or error.diag.column_name or ""
        self.refused[row] = Fault(int(self._batch.row_entry[row]), column, f"{reason} [{error.sqlstate}]")
