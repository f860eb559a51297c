"""Accept that a stream went back: what is there now is drained as a new stream, the old ledger stays as proof."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import psycopg

from infra.errors.exceptions import Terminal

_MARK = "@until-"
_AGAIN = "@again-"
_KNOWN = re.compile(rf"(?:{_MARK}|{_AGAIN}).*", re.DOTALL)
_RENAME = """
    UPDATE spillway.streams
       SET name = name || %(mark)s || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
     WHERE name = %(stream)s RETURNING name"""


def accept_rewind(connection: psycopg.Connection, stream: str) -> str:
    """Give the old books of `stream` another name, which is returned; the next drain begins it anew, at its start.

    Nothing is lost, since all that is in the stream is read, and nothing comes twice: an event that the table has is
    a duplicate. Raises `Terminal` for a stream that Spillway does not know.
    """
    row = connection.execute(_RENAME, {"mark": _MARK, "stream": stream}).fetchone()
    if row is None:
        names = [name for (name,) in connection.execute("SELECT name FROM spillway.streams ORDER BY id LIMIT 20")]
        known = ", ".join(name for name in names if name == original_name(name)) or "none"
        raise Terminal(f"accept-rewind: Spillway knows no stream {stream!r}, expected one of: {known}")
    name: str = row[0]
    return name


def original_name(name: str) -> str:
    """The name in Redis of a stream whose books may have been given another one."""
    return _KNOWN.sub("", name)


def ledger_name_again(name: str) -> str:
    """The name of the books of what is loaded a second time on purpose, beside those of the first time."""
    return f"{name}{_AGAIN}{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
