"""SQL for the row of `spillway.streams` that belongs to a stream."""

from __future__ import annotations

from typing import LiteralString

import psycopg

_STREAM_ID: LiteralString = "(SELECT id FROM spillway.streams WHERE name = %(stream)s)"
_REGISTER = """
    INSERT INTO spillway.streams (name, baseline, "table") VALUES (%(stream)s, %(baseline)s, %(table)s)
        ON CONFLICT (name) DO NOTHING"""


def fill_in(statement: LiteralString, **parts: LiteralString) -> LiteralString:
    """`statement` with the `parts` in place of their names in braces, such as `{first}`.

    `{stream_id}` becomes the id of the stream that the parameter `stream` names, null if the ledger has no such stream.
    Other braces are left unchanged, such as `'{}'`, an empty array.
    """
    for name, text in {"stream_id": _STREAM_ID, **parts}.items():
        statement = statement.replace(f"{{{name}}}", text)
    return statement


def register_stream(connection: psycopg.Connection, ledger_name: str, table: str, baseline: int = 0) -> None:
    """Add a stream or a file to `spillway.streams` unless it is already registered.

    `table`: the quoted name of the table that its rows go to (`Table.regclass`).
    `baseline`: how many entries had been trimmed or deleted before the stream was first seen. Raises `psycopg.Error`.
    """
    connection.execute(_REGISTER, {"stream": ledger_name, "baseline": baseline, "table": table})
