"""The members of a JSON document, each with the text that it was written with. Nothing of Spillway is used."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from json.decoder import scanstring
from typing import Any

from tests.fuzz.jsonb import Members, Number, Refused, has_surrogates, parse

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Raw:
    """A value as written: the text of a field, or the JSON text of a member."""

    text: str
    is_json: bool

    @property
    def value(self) -> Any:
        """A text, a number as written (`jsonb.Number`), a boolean, None, a list or `Members`."""
        return parse(self.text) if self.is_json else self.text

    def plain(self) -> str | None:
        """The text of a value that is neither an object nor an array; None for null. Raises `Refused` for those."""
        value = self.value
        if value is True or value is False:
            return "true" if value else "false"
        if value is None or isinstance(value, Number):
            return value
        if isinstance(value, str) and not has_surrogates(value):
            return value
        raise Refused("neither a text, a number nor a boolean")

    def elements(self) -> list[str]:
        """The JSON texts of the elements of an array."""
        found = []
        at = _skip(self.text, 1)
        while self.text[at] != "]":
            if self.text[at] == ",":
                at = _skip(self.text, at + 1)
            _value, end = _DECODER.raw_decode(self.text, at)
            found.append(self.text[at:end])
            at = _skip(self.text, end)
        return found


def members(document: bytes) -> dict[str, Raw]:
    """The members of a JSON object, without spaces around their texts; the last of a repeated key counts.

    Bytes that are not UTF-8 are lone surrogates in the texts. Raises `Refused` if the document is not an object.
    """
    tree = parse(document.decode(errors="replace"))
    if not isinstance(tree, Members):
        raise Refused("not a JSON object")
    if has_surrogates(tree):
        raise Refused("lone surrogates")
    return dict(_members(document.decode(errors="surrogateescape")))


def _members(text: str) -> Any:
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        if text[at] == ",":
            at = _skip(text, at + 1)
        key, at = scanstring(text, at + 1, True)
        start = _skip(text, _skip(text, at) + 1)
        _value, end = _DECODER.raw_decode(text, start)
        yield key, Raw(text[start:end], True)
        at = _skip(text, end)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None  # it matches nothing, too
    return match.end()
