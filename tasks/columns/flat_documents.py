"""The fields of a flat entry as one JSON object."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pyarrow as pa

from tasks.columns.entries import EntryColumns

# The texts of floats that JSON cannot spell, and the strings that stand for them, as in PostgreSQL's to_jsonb.
NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_QUOTED = 60  # bytes of a field name that a fault quotes


def as_documents(
    group: EntryColumns, without: frozenset[str], json_keys: frozenset[bytes], faults: dict[int, tuple[str, str]]
) -> pa.Array:
    """The fields of each entry, except some, as a JSON object: binary, n.

    The values of `json_keys` stay what they are, all others are strings. An entry with bytes that are not UTF-8 is null
    and gets a fault.
    """
    documents: list[bytes | None] = []
    for i, fields in enumerate(group.documents()):
        try:
            members: dict[str, Any] = {
                key.decode(): value.decode() for key, value in fields.items() if value is not None
            }
            for key in json_keys & fields.keys():
                if (value := fields[key]) is not None:
                    members[key.decode()] = _json_or_text(value)
            documents.append(orjson.dumps({key: value for key, value in members.items() if key not in without}))
        except UnicodeDecodeError as error:
            documents.append(None)
            name = next(key for key, value in fields.items() if error.object in (key, value))
            faults.setdefault(i, (name[:_QUOTED].decode(errors="replace"), not_utf8(error)))
    return pa.array(documents, pa.binary())


def _json_or_text(value: bytes) -> orjson.Fragment | str:
    """A value as it stands, so that every digit is kept. As a string if it is not JSON: NaN, or an edited value."""
    text = value.decode()
    if text in NOT_FINITE:
        return NOT_FINITE[text]
    try:
        msgspec.json.decode(value, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        return text
    return orjson.Fragment(value)


def not_utf8(error: UnicodeDecodeError) -> str:
    """Why a value is refused that is not UTF-8."""
    return f"expected UTF-8, found byte 0x{error.object[error.start]:02x} at {error.start}"
