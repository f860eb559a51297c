"""Extract the text of the keys that a mapping names, from flat fields or from one JSON document per entry."""

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

from infra.mapping.mapping import FLAT, JSON, Mapping
from tasks.columns.entries import EntryColumns

_NULL = msgspec.Raw(b"null")
_QUOTED = 60  # bytes of a field name that a fault quotes


@dataclass
class ExtractedColumns:
    """The columns of n entries. `texts[key]`: string, n. `properties`: binary, n. A null means that the key is absent.

    `faults`: entry → (field, reason), for each entry that cannot be parsed.
    """

    texts: dict[str, pa.Array]
    properties: pa.Array
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)


def split_by_layout(group: EntryColumns, mapping: Mapping | None) -> list[tuple[Mapping, NDArray[np.int64]]]:
    """The mapping for each row of the group: `mapping`, or without one the built-in layout that the fields select.

    Entries of one shape have one layout. Entries of mixed shapes are checked one by one.
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


def extract(group: EntryColumns, mapping: Mapping) -> ExtractedColumns:
    """Extract the columns that `mapping` names from every entry of `group`."""
    keys = tuple(dict.fromkeys(key for source in mapping.sources.values() for key in source.keys))
    return _from_json(group, mapping, keys) if mapping.layout == "json" else _from_flat(group, mapping, keys)


def _from_flat(group: EntryColumns, mapping: Mapping, keys: tuple[str, ...]) -> ExtractedColumns:
    columns = ExtractedColumns({}, pa.nulls(0, pa.binary()))
    for key in keys:
        columns.texts[key] = _utf8(group.column(key.encode()), key, columns.faults)
    if mapping.properties is not None:
        columns.properties = group.column(mapping.properties.encode())
    else:
        columns.properties = _documents(group, columns.faults)
    return columns


def _documents(group: EntryColumns, faults: dict[int, tuple[str, str]]) -> pa.Array:
    """All fields of each entry as one JSON object of strings."""
    documents: list[bytes | None] = []
    for i, fields in enumerate(group.documents()):
        try:
            documents.append(orjson.dumps({key.decode(): value.decode() for key, value in fields.items()}))
        except UnicodeDecodeError as error:
            documents.append(None)
            name = next(key for key, value in fields.items() if error.object in (key, value))
            faults.setdefault(i, (name[:_QUOTED].decode(errors="replace"), _not_utf8(error)))
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


@dataclass(frozen=True)
class _Decoders:
    """Decoders that read only the keys of a mapping from a document and skip the rest. Key number i becomes `f{i}`.

    `quick`: strings, fractions and exponents become str; integers, booleans and null become Python objects.
    `exact`: every value stays raw JSON. Both keep `properties` as raw JSON.
    """

    quick: Callable[[bytes], Any]
    exact: Callable[[bytes], Any]


@lru_cache(maxsize=64)
def _decoders(keys: tuple[str, ...], properties: str | None) -> _Decoders:
    names = {f"f{i}": key for i, key in enumerate(keys)}
    rest: list[tuple[str, Any, Any]] = []
    if properties is not None:
        rest.append(("properties", msgspec.Raw, _NULL))
        names["properties"] = properties
    quick: list[tuple[str, Any, Any]] = [(f"f{i}", Any, None) for i in range(len(keys))]
    exact: list[tuple[str, Any, Any]] = [(f"f{i}", msgspec.Raw, _NULL) for i in range(len(keys))]
    structs = [msgspec.defstruct("Document", fields + rest, rename=names, gc=False) for fields in (quick, exact)]
    return _Decoders(
        msgspec.json.Decoder(structs[0], float_hook=str).decode,  # a float would lose digits: 5.10, 1e400
        msgspec.json.Decoder(structs[1]).decode,
    )


def _from_json(group: EntryColumns, mapping: Mapping, keys: tuple[str, ...]) -> ExtractedColumns:
    name = mapping.field.decode(errors="replace")
    whole = group.column(mapping.field)
    columns = ExtractedColumns({}, whole)
    decoders = _decoders(keys, mapping.properties)
    documents: list[bytes | None] = whole.to_pylist()
    try:
        parsed = list(map(decoders.quick, documents))  # type: ignore[arg-type]  # None is caught below
    except (msgspec.MsgspecError, TypeError, UnicodeDecodeError, RecursionError):
        empty = decoders.quick(b"{}")
        parsed = []
        for i, document in enumerate(documents):
            try:
                if document is None:
                    raise msgspec.DecodeError(f"expected a field {name!r}, found none")
                parsed.append(_decode_one(decoders, document, keys))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                parsed.append(empty)
                columns.faults[i] = (name, str(error))
    for number, key in enumerate(keys):
        attribute = f"f{number}"
        values = [getattr(row, attribute) for row in parsed]
        try:
            columns.texts[key] = pa.array(values, pa.string())
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            columns.texts[key], faults = _texts(values, key, documents)
            for i, reason in faults.items():
                columns.faults.setdefault(i, (name, reason))
    if mapping.properties is not None:
        raws = (bytes(row.properties) for row in parsed)
        columns.properties = pa.array([None if raw == b"null" else raw for raw in raws], pa.binary())
    return columns


def _decode_one(decoders: _Decoders, document: bytes, keys: tuple[str, ...]) -> Any:
    """Decode one document. Only the last value of a repeated key counts; earlier ones may be any JSON."""
    try:
        return decoders.quick(document)
    except (msgspec.ValidationError, UnicodeDecodeError):
        row = decoders.exact(document)  # raises for invalid JSON; otherwise an integer was too long for Python
    for number, key in enumerate(keys):
        setattr(row, f"f{number}", _exact_text(bytes(getattr(row, f"f{number}")), key))
    return row


def _exact_text(value: bytes, key: str) -> str | None:
    """A JSON value as text, None for null. Raises `ValidationError` for an object or an array."""
    if value[:1] == b'"':
        return msgspec.json.decode(value, type=str)
    if value[:1] in b"{[":
        raise msgspec.ValidationError(_no_text(value[:1] == b"{", key))
    return None if value == b"null" else value.decode()


def _no_text(is_object: bool, key: str) -> str:
    return f"Expected `str | int | float | bool | null`, got `{'object' if is_object else 'array'}` - at `$.{key}`"


def _texts(values: list[Any], key: str, documents: list[bytes | None]) -> tuple[pa.Array, dict[int, str]]:
    """The texts of the values that `quick` returned, and a reason for each value that has no text."""
    try:
        return pa.array([str(v) if v.__class__ is int and v else v for v in values], pa.string()), {}
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pass
    texts: list[str | None] = []
    faults: dict[int, str] = {}
    for i, value in enumerate(values):
        if value is None or isinstance(value, str):
            texts.append(value)
        elif value is True or value is False:
            texts.append("true" if value else "false")
        elif isinstance(value, int):
            texts.append(str(value) if value else _zero(key, documents[i]))
        else:
            texts.append(None)
            faults[i] = _no_text(isinstance(value, dict), key)
    return pa.array(texts, pa.string()), faults


def _zero(key: str, document: bytes | None) -> str | None:
    """The text of a zero. Python does not distinguish 0 from -0, so the document is read again if it has a -0."""
    if document is None or b"-0" not in document:
        return "0"
    return _exact_text(bytes(_decoders((key,), None).exact(document).f0), key)
