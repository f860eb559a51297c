"""Names in the ledger. A stream has its name in Redis, a file `file:` and its SHA-256.

A stream that went back is renamed to `NAME@until-TIME`, so that its present content can be drained as a new stream. A
stream or file that is loaded a second time on purpose gets the name `NAME@again-TIME`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import psycopg

from infra.errors.exceptions import Terminal
from tasks.ledger.stream_balance import row_findings

FILE = "file:"
_FILE_LEDGER = re.compile(rf"{FILE}[0-9a-f]{{64}}(@.*)?", re.DOTALL)
_UNTIL = "@until-"
_AGAIN = "@again-"
_SUFFIX = re.compile(rf"(?:{_UNTIL}|{_AGAIN}).*", re.DOTALL)
_RENAME = """
    UPDATE spillway.streams
       SET name = name || %(mark)s || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
     WHERE name = %(stream)s RETURNING name"""


def accept_rewind(connection: psycopg.Connection, stream: str, anyway: bool = False) -> str:
    """Rename `stream` in the ledger and return the new name. The next drain reads the stream from its start.

    No event is lost, since the whole stream is read, and none is inserted twice, since an event that the table has is a
    duplicate. A table without a unique key cannot know, so a stream that only seems to have gone back must not be
    accepted: `anyway` accepts it though the ledger does not balance. Raises `Terminal` without `anyway` for such a
    ledger, and if the ledger does not know the stream; `psycopg.Error`.
    """
    if not anyway and (wrong := row_findings(connection, stream)):
        raise Terminal(
            f"accept-rewind: the ledger of {stream} is wrong, so it cannot say that the stream went back:"
            f" {wrong[0].detail}; expected totals that balance; nothing was changed; {wrong[0].repair}; then `spillway"
            f" reconcile --stream {stream}` says whether the stream went back. If you know that it did: --anyway"
        )
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
