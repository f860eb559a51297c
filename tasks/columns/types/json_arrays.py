"""JSON arrays as nested lists of texts. Numbers keep their spelling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec

from tasks.columns.types.array_literals import Nested

# Most arrays hold only strings, small integers, or fractions, which stay texts.
_QUICK = msgspec.json.Decoder(list[Any], float_hook=str)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_STRING = msgspec.json.Decoder(str)
_SCALARS = {str, int, type(None)}
_BLANK = b" \t\n\r"


def parse_flat_arrays(documents: Sequence[bytes | None]) -> tuple[list[Any], list[int]] | None:
    """The elements of JSON arrays of one dimension, and how many each has; a null has none.

    Elements are strings, integers and None; fractions are texts. None if a document is anything else.
    """
    try:
        arrays = [[] if document is None else _QUICK.decode(document) for document in documents]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    elements = list(chain.from_iterable(arrays))
    if not set(map(type, elements)) <= _SCALARS:
        return None
    if b"-0" in b" ".join(filter(None, documents)):  # Python does not distinguish 0 from -0
        return None
    return elements, list(map(len, arrays))


def parse_json_array(document: bytes, keep_json: bool) -> Nested | None:
    """The elements of a JSON array. None if the text is not a JSON array, or if an element is an object.

    `keep_json`: the elements are JSON themselves. Otherwise an array in the array is another dimension.
    """
    try:
        return _elements(document, keep_json)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return None


def parse_json_string(document: bytes) -> str | None:
    """The text of a JSON string. None if it is not a JSON string."""
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
