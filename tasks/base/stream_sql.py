"""SQL for the row of `spillway.streams` that belongs to a stream."""

from __future__ import annotations

from typing import LiteralString

_STREAM_ID: LiteralString = "(SELECT id FROM spillway.streams WHERE name = %(stream)s)"


def fill_in(statement: LiteralString, **parts: LiteralString) -> LiteralString:
    """`statement` with the `parts` in place of their names in braces, such as `{first}`.

    `{stream_id}` becomes the id of the stream that the parameter `stream` names, null if the ledger has no such stream.
    Other braces are left unchanged, such as `'{}'`, an empty array.
    """
    for name, text in {"stream_id": _STREAM_ID, **parts}.items():
        statement = statement.replace(f"{{{name}}}", text)
    return statement
