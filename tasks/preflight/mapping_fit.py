"""Does the mapping fit the entries? Asked before the first event of a stream or a file is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from infra.errors.exceptions import Terminal
from infra.mapping import ColumnSource, Mapping, explain_no_mapping
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
    """Raise `Terminal` if no readable entry of the sample has the keys of a column; return warnings.

    `mapping` None: the two known layouts. An entry that cannot be read says nothing about its keys: it goes to
    quarantine, and if no entry can be read, nothing is refused. `newest`: other entries of the stream, asked for before
    it is refused, so that a stream whose first entries are garbage is drained.

    A warning: a default stood in for a key in every entry of the sample.
    """
    readable, lacking = _lacking(mapping, sample)
    unmet = [name for name, source in lacking.items() if source.default is None]
    if unmet:
        later, still = _lacking(mapping, newest())
        unmet = [name for name in unmet if not later or name in still]
    if unmet:
        raise Terminal(_refusal(what, mapping, sample, min(unmet), lacking[min(unmet)], readable))
    return [
        f"{what}: {_column(mapping, name)} is its default {source.default!r} in all of the first {readable} entries,"
        f" because none has {_keys(source)}; if that is not meant, correct the mapping"
        for name, source in sorted(lacking.items())
        if source.default is not None
    ]


def _lacking(mapping: Mapping | None, sample: Sequence[EntryColumns]) -> tuple[int, dict[str, ColumnSource]]:
    """How many entries can be read, and the columns whose keys none of these has."""
    lacking: dict[str, ColumnSource] = {}
    met: set[str] = set()
    readable = 0
    for group in sample:
        for layout, rows in split_by_layout(group, mapping):
            part = group.take(rows)
            absent_field = np.zeros(len(part), bool)
            if layout.layout == "json":  # an entry without the field of the document can be read, and has no key
                absent_field = np.asarray(part.column(layout.field).is_null())
            columns = extract(part, layout)
            good = np.ones(len(part), bool)
            good[list(columns.faults)] = False
            good |= absent_field
            readable += int(good.sum())
            for name, source in layout.sources.items():
                lacking.setdefault(name, source)
                if (_has(source, columns) & good).any():
                    met.add(name)
    if not readable:
        return 0, {}
    return readable, {name: source for name, source in lacking.items() if name not in met}


def _has(source: ColumnSource, columns: ExtractedColumns) -> NDArray[np.bool_]:
    """Which entries have all keys of a template, or the key that is read instead."""
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
            f"{what}: spillway.toml: {_column(mapping, name)} names {keys}, which none of the first {readable} entries"
            f" that can be read has; they have: {found}; nothing was written: correct the mapping, or name another one"
        )
    return (
        f"{what}: {explain_no_mapping(settings().mappings)}, and without a mapping {name} is {keys}, which none of the"
        f" first {readable} entries that can be read has; they have: {found}; nothing was written."
        f" Check this proposal and put it as the first line into spillway.toml: {proposal(what, sample)}"
    )
