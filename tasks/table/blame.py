"""What an error of PostgreSQL is about: one row, the statement, or the server."""

from __future__ import annotations

from enum import Enum

import psycopg

from infra.errors.classify import is_transient, value_too_large


class Blame(Enum):
    """What to do about it depends on this alone.

    `ROW`: the server rejects a value; the other rows may go in. `STATEMENT`: no row may go in, unless one does: then
    it is about the rows that did not. `SERVER`: never about a row.
    """

    ROW = "row"
    STATEMENT = "statement"
    SERVER = "server"


# Classes of https://www.postgresql.org/docs/current/errcodes-appendix.html. What is in neither is about a row: 22 (data
# exception), 23 (integrity), 44 (WITH CHECK OPTION), 54 (program limit: nesting too deep, an index row too large), P0
# (RAISE) and whatever class a function of the user's made up.
SERVER_CLASSES = ("08", "25", "28", "2D", "3D", "40", "53", "55", "57", "58", "F0", "XX")
# 0A: COPY into a table with row security. 42: a missing right, or a trigger that names what does not exist.
STATEMENT_CLASSES = ("0A", "26", "34", "3F", "42")

# Where PL/pgSQL reports what a function raises by RAISE or ASSERT, with any SQLSTATE of its choice. The name of a
# function of the server's source is not translated; messages and their context are. A bare RAISE, which passes on what
# the server said, keeps the place where that came from. What PL/Python raises looks the same in both cases, so it is
# not among them.
_RAISED = {"exec_stmt_raise", "exec_stmt_assert"}


def blame(error: psycopg.Error) -> Blame:
    """What `error` is about. Never decided by words, which the server translates; internal errors have English ones."""
    if was_raised(error):
        return Blame.ROW
    state = error.sqlstate
    if state is None:
        return Blame.SERVER
    if state == "XX000":
        # A document of more parts than fit a gigabyte.
        return Blame.ROW if value_too_large(error) else Blame.SERVER
    if state[:2] in SERVER_CLASSES or is_transient(error):
        return Blame.SERVER
    return Blame.STATEMENT if state[:2] in STATEMENT_CLASSES else Blame.ROW


def was_raised(error: psycopg.Error) -> bool:
    """Whether a function, such as that of a trigger, raised it of its own will, whatever SQLSTATE it chose."""
    return error.diag.source_function in _RAISED
