"""Make the value of a column from the values of its keys: alternatives, templates, nulls, changes, defaults."""

from __future__ import annotations

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from infra.mapping.column_source import ColumnSource
from tasks.columns.entries import EntryColumns
from tasks.columns.extracted_values import ExtractedValues, form_of, read_form
from tasks.columns.row_layout import FilledColumn, RowLayout


def column_values(column: FilledColumn, extracted: ExtractedValues, group: EntryColumns, layout: RowLayout) -> pa.Array:
    """The values of a column before they are parsed: string, binary (JSON) or int64, n. Null without a value."""
    source = column.source
    if source.whole is not None:
        return _whole(source, extracted, group)
    if source.single_key is not None:
        values = _first_present(column, extracted)
    elif source.constant is not None:
        return pa.array([source.constant] * len(group), pa.string())
    else:
        values = _joined(source, extracted)
    nulls = source.null or layout.mapping.null
    if not (nulls or source.changes or source.default is not None):
        return values
    return _changed(values, source, nulls)


def absent_keys(column: FilledColumn, extracted: ExtractedValues, entry: int) -> list[str]:
    """The keys of a column that an entry lacks."""
    form = read_form(column)
    return [key for key in column.source.pieces[1::2] if not extracted.of(key, form)[entry].is_valid]


def _whole(source: ColumnSource, extracted: ExtractedValues, group: EntryColumns) -> pa.Array:
    if source.whole == "document":
        return extracted.documents
    if source.whole == "unmapped":
        return extracted.unmapped
    ids = group.ids.cast(pa.string())
    return ids if source.whole == "entry_id" else pc.replace_substring_regex(ids, "-.*$", "")


def _first_present(column: FilledColumn, extracted: ExtractedValues) -> pa.Array:
    form = form_of(column)
    values = extracted.of(column.source.pieces[1], form)
    for key in column.source.alternatives:
        if not values.null_count:
            break
        values = pc.coalesce(values, extracted.of(key, form))
    return values


def _joined(source: ColumnSource, extracted: ExtractedValues) -> pa.Array:
    parts = [
        extracted.texts[piece].cast(pa.string()) if i % 2 else pa.scalar(piece) for i, piece in enumerate(source.pieces)
    ]
    return pc.binary_join_element_wise(*parts, "")


def _changed(values: pa.Array, source: ColumnSource, nulls: tuple[str, ...]) -> pa.Array:
    """Texts that mean null become null; then changes, and the default for nulls. JSON only gets a default."""
    if pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
        values = values.cast(pa.string())
    if pa.types.is_string(values.type):
        if nulls:
            found = pc.is_in(values, value_set=pa.array(nulls, pa.string()))
            if pc.any(found).as_py():
                values = pc.if_else(found, pa.scalar(None, pa.string()), values)
        for change in source.changes:
            values = _CHANGES[change](values)
    elif nulls and pa.types.is_binary(values.type):
        spelled = [text.encode() for text in nulls]
        spelled += [msgspec.json.encode(text) for text in nulls]  # in a document, quoted
        found = pc.is_in(values, value_set=pa.array(spelled, pa.binary()))
        values = pc.if_else(found, pa.scalar(None, pa.binary()), values)
    if source.default is not None and values.null_count:
        values = values.fill_null(source.default)
    return values


_CHANGES = {"trim": pc.utf8_trim_whitespace, "lower": pc.utf8_lower, "upper": pc.utf8_upper}
