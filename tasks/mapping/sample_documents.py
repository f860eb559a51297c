"""The values of sampled entries: of flat fields, or of the document in one of them, and how it is encoded."""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa

from infra.mapping.stream_mapping import Encoding
from tasks.columns.entries import EntryColumns

# A field of an entry with more fields is data of its own, even if it holds an object.
_ENVELOPE_FIELDS = 3
_DEEPEST_ENCODING = 4
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{8,}={0,2}")
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"

Document = Mapping[str, Any]


class Digits(str):
    """A number as it is written. Every other text is a string."""

    __slots__ = ()


@dataclass(frozen=True)
class SampledDocuments:
    """The documents of a sample: objects of texts, `Digits`, booleans, None, and lists and objects of these.

    `layout`: `flat` if they are the fields of the entries themselves. `fields`: of the entries. `field` and
    `encodings`: of a JSON document. `unreadable`: entries of the sample without such a document.
    """

    layout: str
    documents: Sequence[Document]
    fields: Sequence[str]
    field: str = "data"
    encodings: tuple[Encoding, ...] = ()
    unreadable: int = 0


def read_documents(groups: Sequence[EntryColumns], field: str | None = None, *, flat: bool = False) -> SampledDocuments:
    """The documents of some entries.

    `field`: the only field that can hold one; None if that must be found out. `flat`: none of them does.
    """
    rows = [row for group in groups for row in _rows(group)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not flat and (field is not None or len(names) <= _ENVELOPE_FIELDS):
        for name in [field] if field is not None else [name for name in names if name and "\ufffd" not in name]:
            values = [row.get(name) for row in rows]
            encodings = _common_encodings(values)
            if encodings is None:
                continue
            found = [_document(value, encodings) for value in values]
            good = [document for document in found if document is not None]
            return SampledDocuments("json", good, names, name, encodings, len(found) - len(good))
    return SampledDocuments("flat", [{name: _plain(value) for name, value in row.items()} for row in rows], names)


def _rows(group: EntryColumns) -> list[dict[str, Any]]:
    """Each entry as a dict of its fields. A field that an entry lacks is left out."""
    if group.keys is None:
        return [{_name(key): value for key, value in row.items()} for row in group.documents()]
    names = [_name(key) for key in group.keys]
    columns = [array.to_pylist() for array in group.values]
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in zip(*columns, strict=True)
    ]


def _name(key: bytes) -> str:
    return key.decode(errors="replace")


def _common_encodings(values: Sequence[Any]) -> tuple[Encoding, ...] | None:
    """The encodings of most documents; None unless more than half of the values are documents."""
    found = Counter(_encodings(value) for value in values)
    encodings, count = max(((e, n) for e, n in found.items() if e is not None), key=lambda e: e[1], default=(None, 0))
    return encodings if count * 2 > len(values) else None


def _encodings(value: Any, depth: int = _DEEPEST_ENCODING) -> tuple[Encoding, ...] | None:
    """The encodings of a document, the outermost first; None if the value is no document."""
    if not isinstance(value, bytes) or not depth:
        return None
    if _json(value) is not None:
        return ()
    for encoding in _possible(value):
        inner = _decode(value, encoding)
        if encoding == "msgpack" and isinstance(inner, dict):
            return ("msgpack",)
        rest = _encodings(inner, depth - 1)
        if rest is not None:
            return (encoding, *rest)
    return None


def _possible(value: bytes) -> Sequence[Encoding]:
    if value.startswith(_GZIP):
        return ["gzip"]
    if value.startswith(_ZSTD):
        return ["zstd"]
    if value[:1] >= b"\x80":  # a map of MessagePack; JSON and base64 are ASCII at their start
        return ["msgpack"]
    return ["base64"] if _BASE64.fullmatch(value) else []


def _decode(value: Any, encoding: Encoding) -> Any:
    """The decoded bytes, or the object of MessagePack; None if the value is not encoded in this way."""
    try:
        if encoding == "base64":
            return b64decode(value, validate=True)
        if encoding == "msgpack":
            return msgspec.msgpack.decode(value)
        with pa.input_stream(pa.BufferReader(value), compression=encoding) as stream:
            return stream.read()
    except (binascii.Error, msgspec.MsgspecError, OSError, ValueError, RecursionError):
        return None


def _document(value: Any, encodings: Sequence[Encoding]) -> Document | None:
    if not isinstance(value, bytes):
        return None
    for encoding in encodings:
        value = _decode(value, encoding)
        if value is None:
            return None
    return _json(value) if isinstance(value, bytes) else _plain(value) if isinstance(value, dict) else None


def _json(value: bytes) -> Document | None:
    if value.lstrip()[:1] != b"{":
        return None
    try:
        found = json.loads(value, parse_int=Digits, parse_float=Digits, parse_constant=Digits)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _plain(value: Any) -> Any:
    """A value of a field, of Parquet or of MessagePack as JSON would have it."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float | Decimal):
        return Digits(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta | UUID):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
