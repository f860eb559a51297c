"""The source of one column, as spillway.toml spells it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from infra.mapping.column_source import DEFAULT_NAMESPACE, ColumnSource, Whole
from infra.mapping.paths import InvalidKey, literal_key, parse_path, parse_template
from infra.mapping.toml_table import TomlTable, near_miss

# What the value of a column is read from. Exactly one of these; without any, from the key with the column's name.
_ORIGINS = ("key", "first_of", "constant", "entry", "document", "unmapped")
_OF_TIMES = ("unit", "format", "timezone")
_OF_TEXTS = ("null", "change", *_OF_TIMES, "uuid5", "ulid", "json")
COLUMN_KEYS = (*_ORIGINS, "default", *_OF_TEXTS)
# An origin → the keys that say nothing about it, because its value never needs them.
_POINTLESS = {
    "constant": ("default", *_OF_TEXTS),
    "document": ("default", *_OF_TEXTS),
    "unmapped": ("default", *_OF_TEXTS),
    "entry": ("default", "null", *_OF_TIMES, "ulid", "json"),
}
# A key → the keys that contradict it: only one of both can have an effect.
_CONTRADICTIONS = {
    "unit": ("format", "timezone"),
    "ulid": ("uuid5", *_OF_TIMES),
    "uuid5": _OF_TIMES,
    "json": ("change", *_OF_TIMES, "uuid5", "ulid"),
}
_FLAGS = ("document", "unmapped", "uuid5", "ulid", "json")
_WHOLE: dict[str, Whole] = {"id": "entry_id", "time": "entry_time"}


def read_column(parent: TomlTable, name: str, *, first_release: bool = False) -> ColumnSource:
    """The source of the column `name`, whose value is a key, a path, a template or a table of options.

    `first_release`: its keys may look like paths that are not valid; they are names then, as they were.
    """
    value = parent.values[name]
    if isinstance(value, str):
        table = TomlTable({"key": value}, parent.place(name), parent.faults)
    elif isinstance(value, dict):
        table = TomlTable(value, parent.place(name), parent.faults)
    else:
        parent.fault(name, "a key or a table")
        return ColumnSource()
    table.refuse_unknown(COLUMN_KEYS)
    _refuse_contradictions(table)
    changes = table.choices("change", ("trim", "lower", "upper"))
    if {"lower", "upper"} <= set(changes):
        table.fault("change", "either lower or upper")
    pieces, alternatives = _keys(table, name, first_release)
    if len(pieces) > 3 or (len(pieces) == 3 and (pieces[0] or pieces[2])):
        for key in {"unit", "json"} & set(table.values):
            table.faults.append(f"{table.place(key)}: expected a single key, found a template")
    return ColumnSource(
        pieces=pieces,
        whole=_whole(table),
        alternatives=alternatives,
        default=table.scalar("default"),
        null=table.scalars("null"),
        changes=changes,
        unit=table.choice("unit", ("s", "ms", "us", "ns")),
        format=_time_format(table),
        timezone=_timezone(table),
        namespace=_namespace(table),
        ulid=table.flag("ulid"),
        json=table.flag("json"),
    )


def _named(table: TomlTable) -> dict[str, Any]:
    """The options that are set: `uuid5 = false` is the same as none."""
    return {key: value for key, value in table.values.items() if value is not False or key not in _FLAGS}


def _refuse_contradictions(table: TomlTable) -> None:
    named = _named(table)
    origins = [key for key in _ORIGINS if key in named]
    if len(origins) > 1:
        table.conflict(origins[0], origins[1:])
        return
    for key, others in [*_POINTLESS.items(), *_CONTRADICTIONS.items()]:
        found = [other for other in others if other in named]
        if key in named and found:
            table.conflict(key, found)
    if named.get("entry") == "time" and (found := [key for key in ("change", "uuid5") if key in named]):
        table.conflict("entry", found)


def _keys(table: TomlTable, name: str, first_release: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The pieces and the alternatives."""
    if "constant" in table.values:
        return (table.scalar("constant") or "",), ()
    if any(origin in _named(table) for origin in ("entry", "document", "unmapped")):
        return ("",), ()
    if "first_of" in table.values:
        keys = table.texts("first_of", "a list of two keys or more")
        if len(keys) == 1 or table.values["first_of"] == []:
            table.fault("first_of", "a list of two keys or more")
        for key in keys:
            check_key(table, "first_of", key)
        return ("", *keys[:1], "") if keys else ("",), keys[1:]
    try:
        return tuple(_pieces(table.text("key", "a key or a template"), name, table, first_release)), ()
    except InvalidKey as error:
        table.fault("key", str(error).removeprefix("expected "))
        return ("",), ()


def _pieces(text: str | None, name: str, table: TomlTable, first_release: bool) -> Iterator[str]:
    if text is None:
        if "key" not in table.values:  # the key with the name of the column
            yield from ("", literal_key(name), "")
        return
    for number, piece in enumerate(parse_template(text)):
        if number % 2 and first_release:
            yield literal_key(piece)
        else:
            if number % 2:
                parse_path(piece)
            yield piece


def check_key(table: TomlTable, key: str, path: str) -> None:
    """Add a fault of `key` if `path` is not a valid key or path."""
    try:
        parse_path(path)
    except InvalidKey as error:
        table.fault(key, str(error).removeprefix("expected "))


def _whole(table: TomlTable) -> Whole | None:
    for key in ("document", "unmapped"):
        if table.flag(key):
            return key
    entry = table.choice("entry", tuple(_WHOLE))
    return _WHOLE[entry] if entry else None


def _time_format(table: TomlTable) -> str | None:
    """A format of strptime that Python can both write and read."""
    form = table.text("format")
    if form is None:
        return None
    sample = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)
    try:
        datetime.strptime(sample.strftime(form), form)
    except (ValueError, re.error):  # a directive twice
        table.fault("format", "a format of strptime such as %d/%m/%Y %H:%M")
    else:
        if "%" not in form.replace("%%", ""):
            table.fault("format", "a format of strptime such as %d/%m/%Y %H:%M")
    return form


def _timezone(table: TomlTable) -> str | None:
    name = table.text("timezone")
    if name is None:
        return None
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # unknown, a folder of the time zone database, or not a name at all
        near = near_miss(name, available_timezones())
        table.fault("timezone", f"an IANA time zone such as {near or 'Europe/Berlin'}")
    return name


def _namespace(table: TomlTable) -> UUID | None:
    value = table.values.get("uuid5", False)
    if isinstance(value, bool):
        return DEFAULT_NAMESPACE if value else None
    try:
        return UUID(value)
    except (ValueError, AttributeError):  # not a UUID, or not a text
        table.fault("uuid5", "true or the UUID of a namespace")
        return None
