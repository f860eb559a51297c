"""Writes values as TOML on one line, whatever is in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_name(name: str) -> str:
    """A key of TOML."""
    return name if _BARE.fullmatch(name) else toml_value(name)


def toml_value(value: Any) -> str:
    """A text, boolean, list or inline table. A text with quotes or backslashes is a literal one if it can be."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_name(key)} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if set('"\\') & set(text) and "'" not in text and text.isprintable():
        return f"'{text}'"
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text) + '"'
