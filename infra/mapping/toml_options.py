"""The options of a table, as spillway.toml spells them: `[tables."name"]`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pydantic_core import PydanticCustomError

from infra.mapping.table_options import OPTIONS
from infra.mapping.toml_table import TomlTable
from infra.setting_values import read_age
from infra.settings import read_folder_or_url

_NAME = r'(?:"(?:[^",]|"")+"|[^\W\d][\w$]*)'
_COLUMN = re.compile(_NAME)
_ORDER = re.compile(rf"{_NAME}(\s+(ASC|DESC))?(\s+NULLS\s+(FIRST|LAST))?", re.IGNORECASE)


def read_options(table: TomlTable) -> dict[str, Any]:
    """The options that the section names, with the types of `TableOptions`."""
    table.refuse_unknown(OPTIONS)
    readers: dict[str, Callable[[str], Any]] = {
        "keep": lambda key: _age(table, key),
        "compress_after": lambda key: _age(table, key),
        "segmentby": lambda key: _columns(table, key, _COLUMN, "origin or origin, carrier"),
        "orderby": lambda key: _columns(table, key, _ORDER, "time_hour DESC"),
        "retention": lambda key: table.choice(key, ("policy", "flow", "archive")),
        "archive_url": lambda key: read_folder_or_url(table.text(key, "a folder or a URL") or ""),
    }
    return {key: readers[key](key) for key in OPTIONS if key in table.values}


def _age(table: TomlTable, key: str) -> Any:
    value = table.values[key]
    try:
        if isinstance(value, str):
            return read_age(value)
    except PydanticCustomError:
        pass
    table.fault(key, 'a duration such as "7d", "36h", "90m" or "30s", or "" for never')
    return None


def _columns(table: TomlTable, key: str, item: re.Pattern[str], example: str) -> str:
    """A comma-separated list, or a list of texts, as a comma-separated list. It may be empty."""
    value = table.values[key]
    listed = value.split(",") if isinstance(value, str) and value.strip() else value or []
    if isinstance(listed, list) and all(isinstance(part, str) and item.fullmatch(part.strip()) for part in listed):
        return ", ".join(part.strip() for part in listed)
    table.fault(key, f"columns such as {example}")
    return ""
