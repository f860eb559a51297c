"""Names in the ledger. A stream has its name in Redis, a file `file:` and its SHA-256.

A stream that went back is renamed to `NAME@until-TIME`, so that its present content can be drained as a new stream. A
stream or file that is loaded a second time on purpose gets the name `NAME@again-TIME`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import psycopg

from infra.errors.exceptions import Terminal

FILE = "file:"
_FILE_LEDGER = re.compile(rf"{FILE}[0-9a-f]{{64}}(@.*)?", re.DOTALL)
_UNTIL = "@until-"
_AGAIN = "@again-"
_SUFFIX = re.compile(rf"(?:{_UNTIL}|{_AGAIN}).*", re.DOTALL)
_RENAME = """
    UPDATE spillway.streams
       SET name = name || %(mark)s || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
     WHERE name = %(stream)s RETURNING name"""


def accept_rewind(connection: psycopg.Connection, stream: str) -> str:
    """Rename `stream` in the ledger and return the new name. The next drain reads the stream from its start.

    No event is lost, since the whole stream is read, and none is inserted twice, since an event that the table has is a
    duplicate. Raises `Terminal` if the ledger does not know the stream, `psycopg.Error`.
    """
    row = connection.execute(_RENAME, {"mark": _UNTIL, "stream": stream}).fetchone()
    if row is None:
        names = [name for (name,) in connection.execute("SELECT name FROM spillway.streams ORDER BY id LIMIT 20")]
        known = ", ".join(name for name in names if name == original_name(name)) or "none"
        raise Terminal(
            f"accept-rewind: the ledger has no stream {stream!r}, expected one of: {known}; nothing was changed; list"
            " all: spillway status"
        )
    name: str = row[0]
    return name


def is_file_ledger(name: str) -> bool:
    """Whether a ledger name belongs to a file. A stream in Redis may be called `file:uploads`; that is not a file."""
    return _FILE_LEDGER.fullmatch(name) is not None


def original_name(name: str) -> str:
    """The name in Redis of a stream, by its name in the ledger."""
    return _SUFFIX.sub("", name)


def ledger_name_again(name: str) -> str:
    """The ledger name for loading something a second time on purpose. The first load keeps its name."""
    return f"{name}{_AGAIN}{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
