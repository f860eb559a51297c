"""Array literals of PostgreSQL, such as `{1,NULL,"a b"}`, as nested lists of texts, and the other way around.

https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
"""

from __future__ import annotations

import re
from typing import Any

# An array as nested lists: each element is a text, an integer, None for null, or another list.
Nested = list[Any]

_BLANK = " \t\n\r\v\f"
_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s{},"\\](?:[^{},"\\]*[^\s{},"\\])?)', re.DOTALL | re.ASCII)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_.+:-]+")
_DEEPEST = 6  # dimensions that the server supports


def parse_literal(text: str) -> Nested | None:
    """The elements of a literal. None for other texts, and for bounds and unusual escapes: the server
    reads those.
    """
    text = text.strip(_BLANK)
    if not text.startswith("{"):
        return None
    try:
        found, end = _parse(text, 0, 1)
    except ValueError:
        return None
    return found if end == len(text) else None


def _parse(text: str, at: int, depth: int) -> tuple[Nested, int]:
    """The list that begins at `at`, and the position after it. Raises `ValueError`."""
    found: Nested = []
    at = _skip(text, at + 1)
    if text[at : at + 1] == "}":
        return found, at + 1
    while True:
        if text[at : at + 1] == "{" and depth < _DEEPEST:
            inner, at = _parse(text, at, depth + 1)
            found.append(inner)
        elif (match := _ELEMENT.match(text, at)) is not None:
            quoted, plain = match.groups()
            if plain is not None:
                found.append(None if plain.upper() == "NULL" else plain)
            else:
                found.append(_ESCAPED.sub(r"\1", quoted))
            at = match.end()
        else:
            raise ValueError(text)
        at = _skip(text, at)
        if text[at : at + 1] == "}":
            return found, at + 1
        if text[at : at + 1] != ",":
            raise ValueError(text)
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def format_literal(nested: Nested) -> str:
    """The literal of an array."""
    return "{" + ",".join(map(_format, nested)) + "}"


def _format(element: Any) -> str:
    if element is None:
        return "NULL"
    if isinstance(element, list):
        return format_literal(element)
    text = str(element)
    if _PLAIN.fullmatch(text) and text.upper() != "NULL":
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
