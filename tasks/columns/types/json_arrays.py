"""JSON arrays as nested lists of texts. Numbers keep their spelling."""

from __future__ import annotations

from typing import Any

import msgspec

from tasks.columns.types.array_literals import Nested

# Most arrays hold only strings, small integers, or fractions, which stay texts.
_QUICK = msgspec.json.Decoder(list[Any], float_hook=str)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_STRING = msgspec.json.Decoder(str)
_SCALARS = (str, int, type(None))
_BLANK = b" \t\n\r"


def parse_json_array(document: bytes, keep_json: bool) -> Nested | None:
    """The elements of a JSON array. None if it is none, or if an element is an object.

    `keep_json`: the elements are JSON themselves. Otherwise an array in the array is another dimension.
    """
    try:
        if not keep_json and b"-0" not in document:  # Python does not distinguish 0 from -0
            found = _QUICK.decode(document)
            if all(element.__class__ in _SCALARS for element in found):
                return found
        return _elements(document, keep_json)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return None


def parse_json_string(document: bytes) -> str | None:
    """The text of a JSON string. None if it is none."""
    try:
        return _STRING.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _elements(document: bytes, keep_json: bool) -> Nested:
    return [_element(bytes(raw).strip(_BLANK), keep_json) for raw in _LIST.decode(document)]


def _element(raw: bytes, keep_json: bool) -> Any:
    if raw == b"null":
        return None
    if keep_json:
        return raw.decode()
    if raw[:1] == b"[":
        return _elements(raw, keep_json)
    if raw[:1] == b"{":
        raise ValueError(raw)
    return _STRING.decode(raw) if raw[:1] == b'"' else raw.decode()
