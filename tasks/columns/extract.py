"""Entries to columns of text: the keys that a mapping names, out of flat fields or of one JSON document."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from infra.mapping import FLAT, JSON, Mapping
from tasks.columns.entries import Group

_NAME_SHOWN = 60  # bytes of a field's name that a fault quotes


@dataclass
class Columns:
    """Of n entries: `texts[key]` string, n, null where absent; `properties` binary, n, null where absent.

    `faults`: entry → (field, reason), for entries that could not be taken apart.
    """

    texts: dict[str, pa.Array]
    properties: pa.Array
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)


def layouts(group: Group, mapping: Mapping | None) -> list[tuple[Mapping, NDArray[np.int64]]]:
    """Mappings, and the rows of the group that each is for: the stream's own, or else the two known layouts.

    Entries of one shape have one layout; entries of many shapes are asked one by one.
    """
    rows = np.arange(len(group), dtype=np.int64)
    if mapping is not None:
        return [(mapping, rows)]
    if group.keys is not None:
        return [(JSON if _is_json(group.keys) else FLAT, rows)]
    json = np.array([_is_json(fields) for fields in group.documents()], bool)
    return [(layout, rows[fits]) for layout, fits in ((JSON, json), (FLAT, ~json)) if fits.any()]


def _is_json(keys: Container[bytes]) -> bool:
    return JSON.field in keys and b"event_id" not in keys


def extract(group: Group, mapping: Mapping) -> Columns:
    """The texts that `mapping` asks for, of every entry of `group`."""
    keys = tuple(dict.fromkeys(key for source in mapping.sources.values() for key in source.keys))
    return _from_json(group, mapping, keys) if mapping.layout == "json" else _from_flat(group, mapping, keys)


def _from_flat(group: Group, mapping: Mapping, keys: tuple[str, ...]) -> Columns:
    columns = Columns({}, pa.nulls(0, pa.binary()))
    for key in keys:
        columns.texts[key] = _utf8(group.column(key.encode()), key, columns.faults)
    if mapping.properties is not None:
        columns.properties = group.column(mapping.properties.encode())
    else:
        columns.properties = _documents(group, columns.faults)
    return columns


def _documents(group: Group, faults: dict[int, tuple[str, str]]) -> pa.Array:
    """All fields of each entry as one JSON object of strings."""
    documents: list[bytes | None] = []
    for i, fields in enumerate(group.documents()):
        try:
            documents.append(orjson.dumps({key.decode(): value.decode() for key, value in fields.items()}))
        except UnicodeDecodeError as error:
            documents.append(None)
            name = next(key for key, value in fields.items() if error.object in (key, value))
            faults.setdefault(i, (name[:_NAME_SHOWN].decode(errors="replace"), _not_utf8(error)))
    return pa.array(documents, pa.binary())


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"expected UTF-8, found byte 0x{error.object[error.start]:02x} at {error.start}"


def _utf8(values: pa.Array, key: str, faults: dict[int, tuple[str, str]]) -> pa.Array:
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        texts: list[str | None] = []
        for i, value in enumerate(values.to_pylist()):
            try:
                texts.append(None if value is None else value.decode())
            except UnicodeDecodeError as error:
                texts.append(None)
                faults.setdefault(i, (key, _not_utf8(error)))
        return pa.array(texts, pa.string())


_Scalar = str | int | float | None


@lru_cache(maxsize=64)
def _decoder(keys: tuple[str, ...], properties: str | None) -> Callable[[bytes], Any]:
    """A decoder that looks at `keys` alone, skips all else, and leaves `properties` as the text that it is."""
    fields: list[tuple[str, Any, Any]] = [(f"f{i}", _Scalar, None) for i in range(len(keys))]
    names = {f"f{i}": key for i, key in enumerate(keys)}
    if properties is not None:
        fields.append(("properties", msgspec.Raw, msgspec.Raw(b"null")))
        names["properties"] = properties
    struct = msgspec.defstruct("Document", fields, rename=names, gc=False)
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(struct).decode
    return decode


def _from_json(group: Group, mapping: Mapping, keys: tuple[str, ...]) -> Columns:
    name = mapping.field.decode(errors="replace")
    whole = group.column(mapping.field)
    columns = Columns({}, whole)
    decode = _decoder(keys, mapping.properties)
    documents: list[bytes | None] = whole.to_pylist()
    try:
        parsed = list(map(decode, documents))  # type: ignore[arg-type]  # None is caught below
    except (msgspec.MsgspecError, TypeError, UnicodeDecodeError, RecursionError):
        empty = decode(b"{}")
        parsed = []
        for i, document in enumerate(documents):
            try:
                if document is None:
                    raise msgspec.DecodeError(f"expected a field {name!r}, found none")
                parsed.append(_decode_one(decode, document))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                parsed.append(empty)
                columns.faults[i] = (name, str(error))
    for number, key in enumerate(keys):
        attribute = f"f{number}"
        columns.texts[key] = _texts([getattr(row, attribute) for row in parsed], key, columns.faults)
    if mapping.properties is not None:
        raws = (bytes(row.properties) for row in parsed)
        columns.properties = pa.array([None if raw == b"null" else raw for raw in raws], pa.binary())
    return columns


def _decode_one(decode: Callable[[bytes], Any], document: bytes) -> Any:
    """Of a repeated key only the last value counts: the earlier ones may be anything that is JSON."""
    try:
        return decode(document)
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        try:
            last = msgspec.json.encode(msgspec.json.decode(document, type=dict[str, msgspec.Raw]))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise error from None
    return decode(last)


def _texts(values: list[_Scalar], key: str, faults: dict[int, tuple[str, str]]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
        pass
    texts: list[str | None] = []
    for i, value in enumerate(values):
        text = value if value is None or isinstance(value, str) else str(value)
        try:
            if text is not None:
                text.encode()
        except UnicodeEncodeError:
            faults.setdefault(i, (key, "expected Unicode text, found a lone surrogate"))
            text = None
        texts.append(text)
    return pa.array(texts, pa.string())
