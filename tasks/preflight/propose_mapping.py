"""A mapping for entries that have none: a guess from the names and values of their fields. A person checks it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from infra.mapping import Mapping
from tasks.columns.entries import EntryColumns
from tasks.columns.times import parse_times
from tasks.columns.uuids import parse_uuids

_SHOWN = 20  # names of fields
_NAME_SHOWN = 60  # characters of each
_LOOKED_AT = 50  # entries
_DOCUMENT_FIELDS = 3  # an entry with more fields is taken as flat, even if one of them holds an object
# In order: the first name that a key is, ends with or begins with.
_LIKELY = {
    "time": ("time", "timestamp", "occurred_at", "created_at", "ts", "at", "date"),
    "event_id": ("event_id", "id", "uuid", "guid"),
    "event_type": ("event_type", "type", "event", "kind", "action", "name", "topic"),
    "user_id": ("user_id", "user", "uid", "customer", "account", "subject", "device", "sensor", "who"),
}
_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")
Fields = dict[str, str | None]  # the text of each; None for a list, an object, null


def field_names(mapping: Mapping | None, sample: Sequence[EntryColumns]) -> list[str]:
    """The names of the fields, or of the document's keys, that the first entries have: printable and quoted."""
    _, entries = _fields(sample, mapping)
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    return [ascii(name[:_NAME_SHOWN]) for name in names[:_SHOWN]]


def proposal(what: str, sample: Sequence[EntryColumns]) -> str:
    """One line of TOML, an entry of `streams`, that maps entries such as these; valid whatever their fields are."""
    document, entries = _fields(sample, None)
    table: dict[str, Any] = {"layout": "flat" if document is None else "json"}
    if document is not None and document != "data":
        table["field"] = document
    keys = [key for key in dict.fromkeys(key for entry in entries for key in entry) if _usable(key)]
    values = {key: [entry[key] for entry in entries if entry.get(key)] for key in keys}
    taken: dict[str, str] = {}
    for column, likely in _LIKELY.items():
        left = [key for key in keys if key not in taken.values()]
        fitting = [key for key in left if _fits(column, values[key])]
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


def _fields(sample: Sequence[EntryColumns], mapping: Mapping | None) -> tuple[str | None, list[Fields]]:
    """The field that holds a document, if one does, and the fields of the first readable entries."""
    wanted = None
    if mapping is not None and mapping.layout == "json":
        wanted = mapping.field.decode(errors="replace")
    entries = [entry for group in sample for entry in group.take(np.arange(min(len(group), _LOOKED_AT))).documents()][
        :_LOOKED_AT
    ]
    flat: list[Fields] = [
        {_text(name): _text(value) for name, value in entry.items() if value is not None} for entry in entries
    ]
    names = dict.fromkeys(name for entry in flat for name in entry)
    if wanted is None and (mapping is not None or len(names) > _DOCUMENT_FIELDS):
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
    """Whether a mapping can name the key, in a template too."""
    return bool(key) and "�" not in key and not any(sign in key for sign in '"\\{}') and key.isprintable()


def _by_name(keys: Sequence[str], word: str) -> list[str]:
    """The keys called so, then those that end or begin with it as a word of their own: `userId`, `user-id`, `id_of`."""
    spelled = {key: _CAPITAL.sub(r"_\1", key).lower().replace("-", "_").lstrip("_") for key in keys}
    tests = (str.__eq__, lambda key, word: key.endswith(f"_{word}"), lambda key, word: key.startswith(f"{word}_"))
    return [key for test in tests for key in keys if test(spelled[key], word)]


def _fits(column: str, values: Sequence[str | None]) -> bool:
    """A time can be read as one, and an id is another one in each entry: a sensor's or a customer's is not."""
    if column == "time":
        return _are_times(values)
    return column != "event_id" or len(set(values)) == len(values)


def _are_times(values: Sequence[str | None]) -> bool:
    return bool(values) and bool(parse_times(pa.array(values, pa.string()))[1].all())


def _are_uuids(values: Sequence[str | None]) -> bool:
    return bool(values) and bool(parse_uuids(pa.array(values, pa.string()))[1].all())


def _toml(value: Any) -> str:
    """As TOML on one line. Texts are in double quotes, what does not print as an escape."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, bool):
        return "true" if value else "false"
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in str(value)) + '"'
