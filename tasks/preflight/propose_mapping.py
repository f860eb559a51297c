"""Proposes a mapping for entries that have none, from the names and values of their fields. A person must check it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from infra.mapping.stream_mapping import StreamMapping
from tasks.columns.entries import EntryColumns
from tasks.columns.times import parse_times
from tasks.columns.uuids import parse_uuids

_MAX_NAMES = 20
_MAX_NAME_LENGTH = 60  # characters
_SAMPLE = 50  # entries
_DOCUMENT_FIELDS = 3  # an entry with more fields counts as flat, even if one of them holds an object
# In order of preference: names that a key may equal, end with or begin with.
_LIKELY = {
    "time": ("time", "timestamp", "occurred_at", "created_at", "ts", "at", "date"),
    "event_id": ("event_id", "id", "uuid", "guid"),
    "event_type": ("event_type", "type", "event", "kind", "action", "name", "topic"),
    "user_id": ("user_id", "user", "uid", "customer", "account", "subject", "device", "sensor", "who"),
}
_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")
Fields = dict[str, str | None]  # each value as text; None for a list, an object or null


def field_names(mapping: StreamMapping | None, sample: Sequence[EntryColumns]) -> list[str]:
    """The names of the fields, or of the keys of the document, in the first entries: printable, quoted and limited."""
    _, entries = _fields(sample, mapping)
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    return [ascii(name[:_MAX_NAME_LENGTH]) for name in names[:_MAX_NAMES]]


def proposal(what: str, sample: Sequence[EntryColumns]) -> str:
    """One line of TOML that maps such entries: an item of `streams`. It is valid TOML whatever the fields are."""
    document, entries = _fields(sample, None)
    table: dict[str, Any] = {"layout": "flat" if document is None else "json"}
    if document is not None and document != "data":
        table["field"] = document
    keys = [key for key in dict.fromkeys(key for entry in entries for key in entry) if _usable(key)]
    values = {key: [entry[key] for entry in entries if entry.get(key)] for key in keys}
    taken: dict[str, str] = {}
    for column, likely in _LIKELY.items():
        unused = [key for key in keys if key not in taken.values()]
        fitting = [key for key in unused if _fits(column, values[key])]
        if key := next((key for word in likely for key in _by_name(fitting, word)), None):
            taken[column] = key
        elif column == "time" and fitting:
            taken[column] = fitting[0]
    table["time"] = taken.get("time", "time")
    if (key := taken.get("event_id")) is None:
        parts = [table["time"], *(key for key in keys if key != table["time"] and values[key])][:4]
        table["event_id"] = {"key": "|".join(f"{{{key}}}" for key in parts), "uuid5": True}
    else:
        table["event_id"] = key if _are_uuids(values[key]) else {"key": key, "uuid5": True}
    stem = PurePosixPath(what).name if "/" in what else what
    table["event_type"] = taken.get("event_type", {"key": "event_type", "default": stem})
    table["user_id"] = taken.get("user_id", {"key": "user_id", "default": "unknown"})
    return f"streams.{_toml(stem)} = {_toml(table)}"


def _fields(sample: Sequence[EntryColumns], mapping: StreamMapping | None) -> tuple[str | None, list[Fields]]:
    """The field that holds the document, if there is one, and the fields of the first readable entries."""
    wanted = None
    if mapping is not None and mapping.layout == "json":
        wanted = mapping.document_field.decode(errors="replace")
    entries = [entry for group in sample for entry in group.take(np.arange(min(len(group), _SAMPLE))).documents()][
        :_SAMPLE
    ]
    flat: list[Fields] = [
        {_text(name): _text(value) for name, value in entry.items() if value is not None} for entry in entries
    ]
    names = dict.fromkeys(name for entry in flat for name in entry)
    if wanted is None and ((mapping is not None and mapping.layout is not None) or len(names) > _DOCUMENT_FIELDS):
        return None, flat
    for name in [wanted] if wanted is not None else names:
        parsed = [_document(entry[name]) for entry in flat if name in entry]
        if documents := [document for document in parsed if document]:
            return name, documents
    return None, flat


def _document(text: str | None) -> Fields | None:
    try:
        found = orjson.loads(text or "")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict):
        return None
    return {
        key: None if value is None or isinstance(value, dict | list) else str(value) for key, value in found.items()
    }


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _usable(key: str) -> bool:
    """Whether a mapping can name the key, even within a template."""
    return bool(key) and "�" not in key and not any(sign in key for sign in '"\\{}') and key.isprintable()


def _by_name(keys: Sequence[str], word: str) -> list[str]:
    """The keys that equal `word`, then those that end or begin with it as a word: `userId`, `user-id`, `id_of`."""
    spelled = {key: _CAPITAL.sub(r"_\1", key).lower().replace("-", "_").lstrip("_") for key in keys}
    tests = (str.__eq__, lambda key, word: key.endswith(f"_{word}"), lambda key, word: key.startswith(f"{word}_"))
    return [key for test in tests for key in keys if test(spelled[key], word)]


def _fits(column: str, values: Sequence[str | None]) -> bool:
    """A time must be readable, and an event id must differ in every entry, unlike the id of a sensor or a customer."""
    if column == "time":
        return _are_times(values)
    return column != "event_id" or len(set(values)) == len(values)


def _are_times(values: Sequence[str | None]) -> bool:
    return bool(values) and bool(parse_times(pa.array(values, pa.string()))[1].all())


def _are_uuids(values: Sequence[str | None]) -> bool:
    return bool(values) and bool(parse_uuids(pa.array(values, pa.string()))[1].all())


def _toml(value: Any) -> str:
    """A value as TOML on one line. Strings are in double quotes, with escapes for characters that do not print."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, bool):
        return "true" if value else "false"
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in str(value)) + '"'
