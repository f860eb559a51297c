"""Extract the values that a layout reads, from flat fields or from one JSON document per entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.mapping.paths import field_name, first_name
from tasks.columns.documents import DocumentReader, Form, Wanted, document_reader, exact_text, no_text
from tasks.columns.entries import EntryColumns
from tasks.columns.flat_documents import as_documents, not_utf8
from tasks.columns.row_layout import FilledColumn, RowLayout, Shape

_INTEGERS = frozenset({"int2", "int4", "int8"})


@dataclass
class ExtractedValues:
    """The values of n entries.

    `texts[key]`: string, n, or int64, n, if all are integers and only columns of integers read the key. `json[key]`:
    binary, n, each value as JSON. A null means that the key is absent or null.
    `documents`: binary, n, the whole entry as JSON. `unmapped`: binary, n, the keys that no column reads, as JSON.
    Both only if a column needs them.
    `faults`: entry → (field, reason), for each entry that cannot be parsed.
    """

    texts: dict[str, pa.Array] = field(default_factory=dict)
    json: dict[str, pa.Array] = field(default_factory=dict)
    documents: pa.Array | None = None
    unmapped: pa.Array | None = None
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)

    def of(self, key: str, form: Form) -> pa.Array:
        """The values of a key in a form."""
        return self.texts[key] if form == "text" else self.json[key]


def split_by_shape(group: EntryColumns, layout: RowLayout) -> list[tuple[Shape, NDArray[np.int64]]]:
    """The shape of each row of the group, and its rows.

    Entries with the same fields have one shape. Entries of mixed fields are checked one by one.
    """
    rows = np.arange(len(group), dtype=np.int64)
    if group.keys is not None:
        return [(layout.shape_of(group.keys), rows)]
    if layout.mapping.layout is not None:
        return [(layout.mapping.layout, rows)]
    json = np.array([layout.shape_of(fields.keys()) == "json" for fields in group.documents()], bool)
    shapes: tuple[tuple[Shape, NDArray[np.bool_]], ...] = (("json", json), ("flat", ~json))
    return [(shape, rows[fits]) for shape, fits in shapes if fits.any()]


def form_of(column: FilledColumn) -> Form:
    """How the values of a column are read from a document."""
    if column.source.json:
        return "text"
    if column.column.base in ("json", "jsonb"):
        return "json"
    return "either" if column.column.base.startswith("_") else "text"


def extract(group: EntryColumns, layout: RowLayout, shape: Shape) -> ExtractedValues:
    """Extract everything that `layout` reads from every entry of `group`. All entries have the shape `shape`."""
    wanted = _wanted(layout.columns)
    whole = {column.source.whole for column in layout.columns}
    needs_unmapped = "unmapped" in whole or layout.mapping.unknown == "refuse"
    if shape == "json":
        found = _from_json(group, layout, wanted)
        if "document" in whole:
            found.documents = group.column(layout.mapping.document_field)
        if needs_unmapped:
            found.unmapped = _unmapped_of_documents(group, layout)
    else:
        found = _from_flat(group, wanted)
        if "document" in whole:
            found.documents = as_documents(group, frozenset(), layout.json_keys, found.faults)
        if needs_unmapped:
            found.unmapped = as_documents(group, _top_keys(layout), layout.json_keys, found.faults)
    return found


def _wanted(columns: Sequence[FilledColumn]) -> tuple[Wanted, ...]:
    return tuple(dict.fromkeys(Wanted(key, read_form(column)) for column in columns for key in column.source.keys))


def read_form(column: FilledColumn) -> Form:
    """How the keys of a column are read: a template joins texts, whatever the column is."""
    return form_of(column) if column.source.single_key is not None else "text"


def _top_keys(layout: RowLayout) -> frozenset[str]:
    """The keys of the first level that any column reads, also as the beginning of a path."""
    keys = [one.key for one in _wanted(layout.columns)]
    return frozenset([*map(field_name, keys), *map(first_name, keys)])


def _from_flat(group: EntryColumns, wanted: Sequence[Wanted]) -> ExtractedValues:
    found = ExtractedValues()
    for one in wanted:
        name, head = field_name(one.key), first_name(one.key)
        values = group.column(name.encode())
        if values.null_count == len(values) and head != name:
            values = _below_field(group.column(head.encode()), head, one)
        if one.form == "text":
            found.texts[one.key] = _utf8(values, one.key, found.faults)
        else:
            found.json[one.key] = values
    return found


def _below_field(values: pa.Array, head: str, one: Wanted) -> pa.Array:
    """The values at a path that begins in a flat field which holds JSON. A field without JSON has none."""
    reader = document_reader((one,))
    texts: list[bytes | None] = []
    for value in values.to_pylist():
        try:
            wrapped = msgspec.json.encode({head: msgspec.Raw(value)}) if value else b"{}"
            (found,) = reader.exact(wrapped)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            found = None
        texts.append(found.encode() if isinstance(found, str) else found)
    return pa.array(texts, pa.binary())


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
                faults.setdefault(i, (key, not_utf8(error)))
        return pa.array(texts, pa.string())


def _from_json(group: EntryColumns, layout: RowLayout, wanted: tuple[Wanted, ...]) -> ExtractedValues:
    name = layout.mapping.document_field.decode(errors="replace")
    documents: list[bytes | None] = group.column(layout.mapping.document_field).to_pylist()
    found = ExtractedValues()
    reader = document_reader(wanted)
    columns = _read_documents(reader, documents, name, found.faults)
    integers = _read_as_integers(layout.columns)
    for one, values in zip(wanted, columns, strict=True):
        if one.form != "text":
            found.json[one.key] = pa.array(values, pa.binary())
            continue
        try:
            found.texts[one.key] = pa.array(values, pa.int64() if one.key in integers else pa.string())
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            found.texts[one.key], faults = _texts(values, one.key, documents)
            for i, reason in faults.items():
                found.faults.setdefault(i, (name, reason))
    return found


def _read_as_integers(columns: Sequence[FilledColumn]) -> set[str]:
    """The keys that only columns of integers read, and whose text no source changes."""
    plain: dict[str, bool] = {}
    for column in columns:
        source = column.source
        is_plain = column.column.base in _INTEGERS and not (source.null or source.changes or source.single_key is None)
        for key in source.keys:
            plain[key] = plain.get(key, True) and is_plain and not source.alternatives and source.default is None
    return {key for key, is_plain in plain.items() if is_plain}


def _read_documents(
    reader: DocumentReader, documents: list[bytes | None], name: str, faults: dict[int, tuple[str, str]]
) -> list[list[Any]]:
    """The wanted values of each document. A document that cannot be read has none, and a fault."""
    try:
        return reader.columns(list(map(reader.quick, documents)))  # type: ignore[arg-type]  # None is caught below
    except (msgspec.MsgspecError, TypeError, UnicodeDecodeError, RecursionError):
        pass
    rows = []
    one_by_one: dict[int, list[Any]] = {}
    for i, document in enumerate(documents):
        row = reader.empty
        try:
            if document is None:
                raise msgspec.DecodeError(f"expected a field {name!r}, found none")
            row = reader.quick(document)
        except (msgspec.ValidationError, UnicodeDecodeError):
            try:
                one_by_one[i] = reader.exact(document or b"")
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                faults[i] = (name, str(error))
        except (msgspec.DecodeError, RecursionError) as error:  # no other reader can read it
            faults[i] = (name, str(error))
        rows.append(row)
    columns = _columns(reader, rows, name, faults)
    for i, values in one_by_one.items():
        for column, value in zip(columns, values, strict=True):
            column[i] = value
    return columns


def _columns(reader: DocumentReader, rows: list[Any], name: str, faults: dict[int, tuple[str, str]]) -> list[list[Any]]:
    """The values of rows that `quick` returned. Strings in raw JSON are checked for UTF-8 only here."""
    try:
        return reader.columns(rows)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    for i, row in enumerate(rows):
        try:
            reader.columns([row])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            rows[i] = reader.empty
            faults[i] = (name, str(error))
    return reader.columns(rows)


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
            faults[i] = no_text(isinstance(value, dict), key)
    return pa.array(texts, pa.string()), faults


def _zero(key: str, document: bytes | None) -> str | None:
    """The text of a zero. Python does not distinguish 0 from -0, so the document is read again if it has a -0."""
    if document is None or b"-0" not in document:
        return "0"
    (found,) = document_reader((Wanted(key, "json"),)).exact(document)
    return exact_text(found, key)


def _unmapped_of_documents(group: EntryColumns, layout: RowLayout) -> pa.Array:
    """The keys of each document that no column reads, as a JSON object. Null for a document that cannot be read."""
    known = _top_keys(layout)
    found: list[bytes | None] = []
    for document in group.column(layout.mapping.document_field).to_pylist():
        try:
            keys = msgspec.json.decode(document or b"{}", type=dict[str, msgspec.Raw])
            found.append(msgspec.json.encode({key: value for key, value in keys.items() if key not in known}))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found.append(None)
    return pa.array(found, pa.binary())
