"""Text from outside (names of streams, reasons, words of a server) as it may reach a terminal, a log or an artifact."""

from __future__ import annotations

import re
from typing import Any

# What moves a cursor, sets a title, turns the direction of writing or ends a line; and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST_NAME = 120  # characters shown of a name
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|!#~])")


def printable(text: str) -> str:
    """`text` with control characters as escapes such as `\\x1b`."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def display_name(name: str) -> str:
    """A name, printable and not longer than a line."""
    name = printable(name)
    return name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"


def printable_json(text: str) -> str:
    """JSON that means the same, without characters that a terminal would obey."""
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def markdown(text: str) -> str:
    """`text` as Markdown that shows it as it is: no link, no code, no HTML, no cell of a table."""
    return _MARKDOWN.sub(r"\\\1", printable(text)).replace("\\<", "&lt;").replace("\\>", "&gt;")


def cell(value: Any) -> Any:
    """A value for a table artifact: texts cannot be anything but texts in it."""
    return markdown(value) if isinstance(value, str) else value
