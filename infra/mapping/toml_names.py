"""The names of tables in spillway.toml."""

from __future__ import annotations

from infra.errors.exceptions import Terminal
from infra.mapping.toml_table import TomlTable
from infra.tables.read_table import EVENTS, parse_table_name

_EXPECTED = "a table such as weather or shop.orders, with names of other characters in double quotes as in SQL"


def read_table_name(table: TomlTable, key: str) -> str | None:
    """The name of a table, as it is written. None if it is absent or faulty."""
    name = table.text(key, _EXPECTED)
    if name is None:
        return None
    try:
        parse_table_name(name)
    except Terminal:
        table.fault(key, _EXPECTED)
        return None
    return name


def section_table(table: TomlTable, name: str) -> tuple[str, str] | None:
    """Schema and name of the table that `[tables."name"]` is about. None if the name is faulty."""
    try:
        return parse_table_name(name)
    except Terminal:
        table.faults.append(f"{table.location}: expected {_EXPECTED}")
        return None


def is_events(name: str | None) -> bool:
    """Whether a table's name is that of `events`, the default."""
    return name is None or parse_table_name(name) == parse_table_name(EVENTS)
