"""Text from outside (names, reasons, messages of servers), made safe for a terminal, a log or an artifact."""

from __future__ import annotations

import re
from typing import Any

# Characters that move the cursor, set a title, change the writing direction or end a line; and lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST_NAME = 120  # characters
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|!#~])")


def printable(text: str) -> str:
    """`text` with control characters escaped, as in `\\x1b`."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def display_name(name: str) -> str:
    """A name without control characters, shortened to 120 characters."""
    name = printable(name)
    return name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"


def count_of(number: int, one: str, several: str = "") -> str:
    """A number and its noun: `1 entry`, `2,000 entries`. `several`: the plural, if it is not that with an s."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def coarse_age(seconds: float) -> str:
    """A duration in the largest unit that it has at least two of: `90 minutes`, `2 days`."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return count_of(int(seconds // size), unit)
    return count_of(max(int(seconds), 0), "second")


def printable_json(text: str) -> str:
    """JSON with the same meaning, without control characters."""
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def markdown(text: str) -> str:
    """`text` escaped for Markdown: no part of it becomes a link, code, HTML or a table cell."""
    return _MARKDOWN.sub(r"\\\1", printable(text)).replace("\\<", "&lt;").replace("\\>", "&gt;")


def cell(value: Any) -> Any:
    """A value for a table artifact, escaped if it is text."""
    return markdown(value) if isinstance(value, str) else value
