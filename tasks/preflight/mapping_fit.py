"""Checks whether the mapping fits the entries, before the first event of a stream or a file is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from infra.errors.exceptions import Terminal
from infra.mapping.mapping import Mapping
from infra.mapping.sources import ColumnSource
from infra.mapping.toml import explain_no_mapping
from infra.settings import settings
from tasks.columns.entries import EntryColumns
from tasks.columns.extract import ExtractedColumns, extract, split_by_layout
from tasks.preflight.propose_mapping import field_names, proposal


def check_mapping(
    what: str,
    mapping: Mapping | None,
    sample: Sequence[EntryColumns],
    newest: Callable[[], Sequence[EntryColumns]] = list,
) -> list[str]:
    """Raise `Terminal` if the keys of a column are missing from every readable entry of the sample. Return warnings.

    `what`: the stream or file. `mapping`: None means the two known layouts. `newest`: returns other entries, which are
    checked before anything is refused, so that a stream whose first entries are garbage can be drained.

    Unreadable entries are ignored: they go to quarantine one by one. A warning means that every entry of the sample
    lacks a key, and gets the default of its column.
    """
    readable, lacking = _lacking(mapping, sample)
    missing = [name for name, source in lacking.items() if source.default is None]
    if missing:
        later, still_lacking = _lacking(mapping, newest())
        missing = [name for name in missing if not later or name in still_lacking]
    if missing:
        raise Terminal(_refusal(what, mapping, sample, min(missing), lacking[min(missing)], readable))
    return [
        f"{what}: {_column(mapping, name)} is its default {source.default!r} in all of the first {readable} entries,"
        f" because none has {_keys(source)}; if that is not intended, correct the mapping"
        for name, source in sorted(lacking.items())
        if source.default is not None
    ]


def _lacking(mapping: Mapping | None, sample: Sequence[EntryColumns]) -> tuple[int, dict[str, ColumnSource]]:
    """How many entries can be read, and the columns whose keys are missing from all of these."""
    lacking: dict[str, ColumnSource] = {}
    present: set[str] = set()
    readable = 0
    for group in sample:
        for layout, rows in split_by_layout(group, mapping):
            part = group.take(rows)
            absent_field = np.zeros(len(part), bool)
            if layout.layout == "json":  # an entry without the document field is readable, and lacks every key
                absent_field = np.asarray(part.column(layout.field).is_null())
            columns = extract(part, layout)
            good = np.ones(len(part), bool)
            good[list(columns.faults)] = False
            good |= absent_field
            readable += int(good.sum())
            for name, source in layout.sources.items():
                lacking.setdefault(name, source)
                if (_has(source, columns) & good).any():
                    present.add(name)
    if not readable:
        return 0, {}
    return readable, {name: source for name, source in lacking.items() if name not in present}


def _has(source: ColumnSource, columns: ExtractedColumns) -> NDArray[np.bool_]:
    """Which entries have all keys of a template, or its fallback."""
    valid = [np.asarray(columns.texts[key].is_valid()) for key in source.pieces[1::2]]
    found = np.logical_and.reduce(valid)
    if source.fallback is not None:
        found = found | np.asarray(columns.texts[source.fallback].is_valid())
    return np.asarray(found, bool)


def _keys(source: ColumnSource) -> str:
    named = ", ".join(repr(key) for key in source.pieces[1::2])
    return f"{named} or {source.fallback!r}" if source.fallback else named


def _column(mapping: Mapping | None, name: str) -> str:
    return f'streams."{mapping.name}".{name}' if mapping is not None and mapping.name else name


def _refusal(
    what: str, mapping: Mapping | None, sample: Sequence[EntryColumns], name: str, source: ColumnSource, readable: int
) -> str:
    found = ", ".join(field_names(mapping, sample)) or "none"
    keys = _keys(source)
    if mapping is not None and mapping.name:
        return (
            f"{what}: spillway.toml: {_column(mapping, name)} names {keys}, which none of the first {readable}"
            f" readable entries has; they have: {found}; nothing was written; correct the mapping, or choose another"
        )
    return (
        f"{what}: {explain_no_mapping(settings().mappings)}, and without a mapping {name} is {keys}, which none of the"
        f" first {readable} readable entries has; they have: {found}; nothing was written."
        f" Check this proposal and put it as the first line into spillway.toml: {proposal(what, sample)}"
    )
