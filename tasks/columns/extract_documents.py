"""Extract the values that a layout reads from one JSON document per entry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import msgspec
import pyarrow as pa

from tasks.columns.documents import DocumentReader, Wanted, document_reader, exact_text, no_array, no_text
from tasks.columns.entries import EntryColumns
from tasks.columns.extracted_values import ExtractedValues, form_of, wanted_values
from tasks.columns.row_layout import FilledColumn, RowLayout

# Documents: so few that their Python objects stay in the processor's cache, which halves the time.
_BLOCK = 1000
_FAMILIES = {"int2": "integer", "int4": "integer", "int8": "integer", "bool": "boolean"}
_NATIVE = {"integer": pa.int64(), "boolean": pa.bool_()}
_JSON_ARRAYS = frozenset({"_json", "_jsonb"})
_NEGATIVE_ZERO = re.compile(rb"[\[,:\s]-0(?![0-9])")


def extract_documents(group: EntryColumns, layout: RowLayout) -> ExtractedValues:
    """Extract what the columns of `layout` read from the document of every entry of `group`."""
    name = layout.mapping.document_field.decode(errors="replace")
    documents = group.column(layout.mapping.document_field)
    wanted = wanted_values(layout.columns)
    kinds = _native_kinds(layout)
    try:
        lists = [replace(one, form="list") if kinds[one.key] == "list" else one for one in wanted]
        found, unusable = _extract(documents, tuple(lists), kinds, name)
    except _NotFlat:
        found, unusable = _extract(documents, wanted, kinds, name)
    if unusable:
        for column in layout.columns:
            _refuse_unusable(found, unusable, column, name)
    return found


class _NotFlat(Exception):
    """Not all values of a key are arrays of one dimension of strings and numbers."""


def _native_kinds(layout: RowLayout) -> dict[str, str]:
    """The kind of the values of keys that need not become texts: all columns that read them have the same type."""
    kinds: dict[str, set[str]] = {}
    for column in layout.columns:
        for key in column.source.keys:
            kinds.setdefault(key, set()).add(_native_kind(column, layout))
    return {key: found.pop() if len(found) == 1 else "text" for key, found in kinds.items()}


def _native_kind(column: FilledColumn, layout: RowLayout) -> str:
    source, base = column.source, column.column.base
    if source.single_key is None or source.json or source.null or source.changes or source.alternatives:
        return "text"
    if source.default is not None:
        return "text"
    if base.startswith("_") and base not in _JSON_ARRAYS and not layout.mapping.null:
        return "list"
    return _FAMILIES.get(base, "text")


def _refuse_unusable(
    found: ExtractedValues, unusable: Mapping[str, Mapping[int, str]], column: FilledColumn, name: str
) -> None:
    """Add a fault for each entry in which the column needs an unusable value: one before it does not replace it."""
    before: list[pa.Array] = []
    for key in column.source.keys:
        for entry, reason in unusable.get(key, {}).items():
            if not any(values[entry].is_valid for values in before):
                found.faults.setdefault(entry, (name, reason))
        if column.source.alternatives:
            before.append(found.of(key, form_of(column)))


def _extract(
    documents: pa.Array, wanted: tuple[Wanted, ...], kinds: Mapping[str, str], name: str
) -> tuple[ExtractedValues, dict[str, dict[int, str]]]:
    """Read the documents, block by block. Also returns, by key, the reasons why values of entries are unusable."""
    found = ExtractedValues()
    unusable: dict[str, dict[int, str]] = {}
    reader = document_reader(wanted)
    columns: list[list[pa.Array]] = [[] for _ in wanted]
    for first in range(0, max(len(documents), 1), _BLOCK):
        block = documents[first : first + _BLOCK].to_pylist()
        faults: dict[int, tuple[str, str]] = {}
        values = _read_documents(reader, block, name, faults)
        for number, one in enumerate(wanted):
            array, reasons = _array(one, kinds[one.key], values[number], block)
            columns[number].append(array)
            if reasons:
                unusable.setdefault(one.key, {}).update({first + i: reason for i, reason in reasons.items()})
        found.faults |= {first + i: fault for i, fault in faults.items()}
    for one, arrays in zip(wanted, columns, strict=True):
        (found.texts if one.form == "text" else found.json)[one.key] = _concat(arrays)
    return found, unusable


def _array(one: Wanted, kind: str, values: list[Any], block: list[bytes | None]) -> tuple[pa.Array, dict[int, str]]:
    """The values of a block, and a reason for each value that is unusable, which is null then."""
    if one.form == "list":
        return _lists(values, block), {}
    try:
        return pa.array(values, _NATIVE.get(kind, pa.string()) if one.form == "text" else pa.binary()), {}
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        if one.form == "text":
            return _texts(values, one.key, block)
    objects = {i: no_array(one.key) for i, value in enumerate(values) if isinstance(value, dict)}
    return pa.array([None if i in objects else value for i, value in enumerate(values)], pa.binary()), objects


def _lists(values: list[Any], block: list[bytes | None]) -> pa.Array:
    """Arrays of one dimension as lists of int64 if all elements are integers, else of string. Raises `_NotFlat`."""
    if not set(map(type, values)) <= {list, type(None)}:
        raise _NotFlat
    found = set(map(type, chain.from_iterable(filter(None, values)))) - {type(None)}
    if not found <= {str, int}:
        raise _NotFlat
    if int in found:
        if _NEGATIVE_ZERO.search(b"\n".join(filter(None, block))):  # Python does not distinguish 0 from -0
            raise _NotFlat
        if found == {int}:
            try:
                return pa.array(values, pa.list_(pa.int64()))
            except OverflowError:
                pass
        values = [value and [str(e) if e.__class__ is int else e for e in value] for value in values]
    return pa.array(values, pa.list_(pa.string()))


def _concat(arrays: list[pa.Array]) -> pa.Array:
    """The arrays of all blocks as one. If their types differ, the values become texts."""
    types = {array.type for array in arrays}
    if len(types) > 1:
        text = pa.list_(pa.string()) if any(map(pa.types.is_list, types)) else pa.string()
        arrays = [array.cast(text) for array in arrays]
    return pa.concat_arrays(arrays)


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
