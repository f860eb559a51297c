"""The rows of a batch, table by table. Most mappings have one table; a `route` chooses one of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.mapping.column_source import key_source
from infra.tables.table import TableColumn
from tasks.columns.decode import Fault, TimeWindow
from tasks.columns.encoded_rows import NO_ROWS, EncodedRows, encode_parts
from tasks.columns.entries import EntryColumns
from tasks.columns.extract import extract, split_by_shape
from tasks.columns.parts import Parts
from tasks.columns.row_layout import FilledColumn, RowLayout
from tasks.columns.types.registry import type_of

_LISTED = 5  # values that a fault names


@dataclass(frozen=True)
class TableRows:
    """The rows of a batch that go to one table. `encoded`: its indexes are those of the batch's parts."""

    layout: RowLayout
    encoded: EncodedRows


def rows_by_table(parts: Parts, layout: RowLayout, window: TimeWindow) -> tuple[tuple[TableRows, ...], EncodedRows]:
    """The rows of each table, and the faults and times of all of them. Without a route, both are the same rows."""
    if not layout.routes:
        encoded = encode_parts(parts, layout, window)
        return (TableRows(layout, encoded),), encoded
    values = _route_values(parts, layout)
    found = []
    known = np.zeros(len(values), bool)
    for value, routed in layout.routes.items():
        at = np.flatnonzero([one == value for one in values])
        known[at] = True
        found.append(_encode_some(parts, at, routed, window))
    others = np.flatnonzero(~known)
    faults: list[Fault] = []
    if layout.mapping.table is not None:
        found.append(_encode_some(parts, others, layout.without_routes(), window))
    else:
        faults = [_refusal(int(entry), layout, values[entry]) for entry in others]
    faults += [fault for rows in found for fault in rows.encoded.faults]
    times = np.concatenate([np.zeros(0, np.int64), *(rows.encoded.times for rows in found)])
    return tuple(rows for rows in found if len(rows.encoded.rows)), replace(NO_ROWS, faults=faults, times=times)


def _refusal(entry: int, layout: RowLayout, value: str | None) -> Fault:
    listed = ", ".join(map(repr, list(layout.routes)[:_LISTED])) + (" …" if len(layout.routes) > _LISTED else "")
    found = "none" if value is None else repr(value[:60])
    return Fault(entry, layout.mapping.route_key or "", f"expected a value with a table ({listed}), found {found}")


def _route_values(parts: Parts, layout: RowLayout) -> list[str | None]:
    """The value of the route's key in each part; None if it cannot be read."""
    key = layout.mapping.route_key or ""
    column = TableColumn(key, "text", "text")
    only = layout.with_columns((FilledColumn(column, key_source(key), type_of(column), True),))
    only = replace(only, mapping=replace(only.mapping, unknown="ignore"))
    values: list[str | None] = []
    for group in parts.groups:
        of_group: list[str | None] = [None] * len(group)
        for shape, rows in split_by_shape(group, layout):
            texts = extract(group.take(rows), only, shape).texts[key].cast(pa.string()).to_pylist()
            for row, text in zip(rows.tolist(), texts, strict=True):
                of_group[row] = text
        values += of_group
    return values


def _encode_some(parts: Parts, at: NDArray[np.int64], layout: RowLayout, window: TimeWindow) -> TableRows:
    """Encode the parts at these indexes."""
    groups: list[EntryColumns] = []
    first = 0
    for group in parts.groups:
        inside = at[(at >= first) & (at < first + len(group))] - first
        if len(inside):
            groups.append(group.take(inside))
        first += len(group)
    faults = {int(np.searchsorted(at, part)): fault for part, fault in parts.faults.items() if part in at}
    encoded = encode_parts(Parts(groups, faults=faults), layout, window)
    return TableRows(
        layout,
        replace(
            encoded,
            row_entry=at[encoded.row_entry],
            repeats=_moved(encoded.repeats, at),
            faults=[replace(fault, entry=int(at[fault.entry])) for fault in encoded.faults],
        ),
    )


def _moved(repeats: Sequence[tuple[int, int]], at: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    return tuple((row, int(at[part])) for row, part in repeats)
