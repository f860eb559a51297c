"""Checks whether the mapping fits the entries, before the first event of a stream or a file is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from shlex import quote

import numpy as np
from numpy.typing import NDArray

from infra.errors.exceptions import Terminal
from infra.mapping.column_source import ColumnSource
from infra.mapping.toml import explain_no_mapping
from infra.settings import settings
from tasks.columns.entries import EntryColumns
from tasks.columns.extract import extract, split_by_shape
from tasks.columns.extracted_values import ExtractedValues, read_form
from tasks.columns.parts import take_apart
from tasks.columns.row_layout import FilledColumn, RowLayout
from tasks.preflight.propose_mapping import field_names, proposal


def check_mapping(
    what: str,
    layout: RowLayout,
    sample: Sequence[EntryColumns],
    newest: Callable[[], Sequence[EntryColumns]] = list,
) -> list[str]:
    """Raise `Terminal` if the keys of a column are missing from every readable entry of the sample. Return warnings.

    Checked are the columns that every row needs, and those that the mapping names. `what`: the stream or file.
    `newest`: returns other entries, which are checked before anything is refused, so that a stream whose first entries
    are garbage can be drained.

    Unreadable entries are ignored: they go to quarantine one by one. A warning means that every entry of the sample
    lacks a key, and gets the default of its column.
    """
    readable, lacking = _lacking(layout, sample)
    missing = [name for name, column in lacking.items() if column.source.default is None and _must_be_there(column)]
    if missing:
        later, still_lacking = _lacking(layout, newest())
        missing = [name for name in missing if not later or name in still_lacking]
    if missing:
        raise Terminal(_refusal(what, layout, sample, min(missing), lacking[min(missing)].source, readable))
    return [
        f"{what}: {_column(layout, name)} is its default {column.source.default!r} in all of the first {readable}"
        f" entries, because none has {_keys(column.source)}; if that is not intended, correct the mapping"
        for name, column in sorted(lacking.items())
        if column.source.default is not None
    ]


def _must_be_there(column: FilledColumn) -> bool:
    return column.column.required or (column.named and bool(column.source.keys))


def _lacking(layout: RowLayout, sample: Sequence[EntryColumns]) -> tuple[int, dict[str, FilledColumn]]:
    """How many entries can be read, and the columns whose keys are missing from all of these."""
    present: set[str] = set()
    readable = 0
    for group in take_apart(sample, layout).groups:
        for shape, rows in split_by_shape(group, layout):
            part = group.take(rows)
            absent_field = np.zeros(len(part), bool)
            if shape == "json":  # an entry without the document field is readable, and lacks every key
                absent_field = np.asarray(part.column(layout.mapping.document_field).is_null())
            values = extract(part, layout, shape)
            good = np.ones(len(part), bool)
            good[list(values.faults)] = False
            good |= absent_field
            readable += int(good.sum())
            for column in layout.columns:
                if column.source.whole is not None or (_has(column, values, len(part)) & good).any():
                    present.add(column.name)
    if not readable:
        return 0, {}
    return readable, {column.name: column for column in layout.columns if column.name not in present}


def _has(column: FilledColumn, values: ExtractedValues, count: int) -> NDArray[np.bool_]:
    """Which entries have all keys of a template, or one of the alternatives."""
    form = read_form(column)
    valid = [np.asarray(values.of(key, form).is_valid()) for key in column.source.pieces[1::2]]
    found = np.logical_and.reduce([np.ones(count, bool), *valid])
    for key in column.source.alternatives:
        found = found | np.asarray(values.of(key, form).is_valid())
    return np.asarray(found, bool)


def _keys(source: ColumnSource) -> str:
    named = ", ".join(repr(key) for key in source.pieces[1::2])
    return " or ".join([named, *map(repr, source.alternatives)])


def _column(layout: RowLayout, name: str) -> str:
    return f'streams."{layout.mapping.name}".{name}' if layout.mapping.name else name


def _refusal(
    what: str, layout: RowLayout, sample: Sequence[EntryColumns], name: str, source: ColumnSource, readable: int
) -> str:
    found = ", ".join(field_names(layout.mapping, sample)) or "none"
    keys = _keys(source)
    if layout.mapping.name:
        return (
            f"{what}: spillway.toml: {_column(layout, name)} names {keys}, which none of the first {readable}"
            f" readable entries has; they have: {found}; nothing was written; correct the mapping (spillway mapping"
            f" check -s {quote(what)} shows what it makes of each column)"
        )
    return (
        f"{what}: {explain_no_mapping(settings().mappings)}, and without a mapping {name} is {keys}, which none of the"
        f" first {readable} readable entries has; they have: {found}; nothing was written. For a table of its own, type"
        f" spillway mapping suggest -s {quote(what)}; for events, check this proposal and put it as the first line into"
        f" spillway.toml: {proposal(what, sample)}"
    )
