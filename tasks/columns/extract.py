"""Extract the values that a layout reads, from flat fields or from one JSON document per entry."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.mapping.paths import CARRIED, field_name, first_name
from tasks.columns.documents import Wanted, document_reader
from tasks.columns.entries import EntryColumns
from tasks.columns.extract_documents import extract_documents
from tasks.columns.extracted_values import ExtractedValues, wanted_values
from tasks.columns.flat_documents import as_documents, not_utf8
from tasks.columns.row_layout import RowLayout, Shape


def split_by_shape(group: EntryColumns, layout: RowLayout) -> list[tuple[Shape, NDArray[np.int64]]]:
    """The shape of each row of the group, and its rows.

    Entries with the same fields have one shape. Entries of mixed fields are checked one by one.
    """
    rows = np.arange(len(group), dtype=np.int64)
    if group.keys is not None:
        return [(layout.shape_of(group.keys), rows)]
    if layout.mapping.layout is not None:
        return [(layout.mapping.layout, rows)]
    found = np.array([layout.shape_of(fields.keys()) for fields in group.documents()], str)
    shapes: tuple[Shape, ...] = ("json", "flat")
    return [(shape, rows[found == shape]) for shape in shapes if shape in found]


def extract(group: EntryColumns, layout: RowLayout, shape: Shape) -> ExtractedValues:
    """Extract everything that `layout` reads from every entry of `group`. All entries have the shape `shape`."""
    whole = {column.source.whole for column in layout.columns}
    needs_unmapped = "unmapped" in whole or layout.mapping.refuses_unknown
    if shape == "json":
        found = extract_documents(group, layout)
        if "document" in whole:
            found.documents = group.column(layout.mapping.document_field)
        if needs_unmapped:
            found.unmapped = _unmapped_of_documents(group, layout)
    else:
        found = _from_flat(group, wanted_values(layout.columns))
        if "document" in whole:
            found.documents = as_documents(group, frozenset(), layout.json_keys, found.faults)
        if needs_unmapped:
            found.unmapped = as_documents(group, _top_keys(layout), layout.json_keys, found.faults)
    return found


def _top_keys(layout: RowLayout) -> frozenset[str]:
    """The keys of the first level that any column reads, also as the beginning of a path; or that are not unknown."""
    keys = [one.key for one in wanted_values(layout.columns)]
    if layout.mapping.refuses_unknown:
        keys += layout.also_read
    if layout.carries:
        keys.append(CARRIED)
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
        found = None if isinstance(found, list | dict) else found
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
