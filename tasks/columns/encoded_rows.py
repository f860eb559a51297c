"""Entries to the rows of a COPY: decoded, encoded, and the repeats set apart. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.columns.decode import DecodedRows, Fault, TimeWindow, decode
from tasks.columns.encode_rows import encode_binary, encode_text, needs_text
from tasks.columns.parts import Parts
from tasks.columns.repeated_keys import find_repeats, is_exact
from tasks.columns.row_layout import RowLayout

_HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class EncodedRows:
    """The parts of a batch (see `Parts`) as n rows of a COPY, and the parts that give no row.

    `rows`: binary, n, one encoded row per part. `columns`: the columns that they have, in order. `binary`: the format
    of the COPY, binary or text.
    `unique`: the keys of the first `unique` rows differ, byte by byte. Each later row repeats one of them with other
    content; these are in stream order. Without a key, all rows are unique.
    `exact`: keys that differ byte by byte differ for the server, too. If not, all rows are in stream order and count as
    unique: only the server knows which of them repeat a key.
    `row_entry`: int64, n, the index in the batch of each row's part.
    `repeats`: (row, part) for each part that repeats a row byte for byte and has no row of its own.
    `faults`: the parts that cannot become a row.
    `times`: int64, microseconds since 1970, the time of each row in no particular order, repeats included; empty if the
    table has no time.
    `defaulted`: the columns in which a null stands for the column's default.
    """

    rows: pa.Array
    unique: int
    row_entry: NDArray[np.int64]
    repeats: Sequence[tuple[int, int]]
    faults: Sequence[Fault]
    times: NDArray[np.int64]
    columns: tuple[str, ...] = ()
    binary: bool = True
    defaulted: tuple[str, ...] = ()
    exact: bool = True

    @property
    def min_time(self) -> int | None:
        """The earliest time, in microseconds since 1970. None without rows or times."""
        return int(self.times.min()) if len(self.times) else None

    @property
    def max_time(self) -> int | None:
        """The latest time, in microseconds since 1970. None without rows or times."""
        return int(self.times.max()) if len(self.times) else None

    @cached_property
    def hourly_times(self) -> NDArray[np.int64]:
        """One time from each hour that has rows, ascending, in microseconds since 1970."""
        return self.times[np.unique(self.times // _HOUR_US, return_index=True)[1]]


NO_ROWS = EncodedRows(pa.nulls(0, pa.binary()), 0, np.zeros(0, np.int64), (), (), np.zeros(0, np.int64))


def encode_parts(parts: Parts, layout: RowLayout, window: TimeWindow) -> EncodedRows:
    """Decode and encode the parts of a batch, and set the repeats apart. Never fails: a bad entry becomes a fault."""
    decoded = decode(parts.groups, layout, window)
    faults = decoded.faults
    if parts.faults:
        faults = [
            replace(f, field=parts.faults[f.entry][0], reason=parts.faults[f.entry][1])
            if f.entry in parts.faults
            else f
            for f in faults
        ]
    if not len(decoded):
        return replace(NO_ROWS, faults=faults)
    filled, defaulted = _defaults(decoded, layout)
    rows = decoded.rows.select(list(filled))
    types = [layout.types[layout.names.index(name)] for name in filled]
    binary = not needs_text(rows, types)
    encoded = EncodedRows(
        rows=encode_binary(rows, types) if binary else encode_text(rows, types),
        unique=len(decoded),
        row_entry=decoded.entry,
        repeats=(),
        faults=faults,
        times=decoded.times,
        columns=filled,
        binary=binary,
        defaulted=defaulted,
    )
    if not layout.key:
        return encoded
    keys = decoded.rows.select(list(layout.key))
    if not is_exact(keys, [layout.types[layout.names.index(name)] for name in layout.key]) or (
        any(column.null_count for column in keys.columns)
        and (layout.key in layout.table.nulls_equal or not set(defaulted).isdisjoint(layout.key))
    ):
        order = np.argsort(decoded.stream_order)
        rows = encoded.rows.take(pa.array(order))
        return replace(encoded, rows=rows, row_entry=encoded.row_entry[order], exact=False)
    found = find_repeats(keys, decoded.stream_order)
    return encoded if found is None else _set_repeats_apart(encoded, *found)


def _defaults(decoded: DecodedRows, layout: RowLayout) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns to send, and those of them in which a null stands for a default.

    A column with a default that is null in every row is not sent: the server fills it. At least one column is sent,
    since a COPY cannot have none. A null of an archive is a null.
    """
    if layout.restored is not None:
        return layout.names, ()
    nulls = {
        column.name: values.null_count
        for column, values in zip(layout.columns, decoded.rows.columns, strict=True)
        if column.column.default is not None and values.null_count
    }
    left_out = {name for name, count in nulls.items() if count == len(decoded) and name not in layout.key}
    filled = tuple(name for name in layout.names if name not in left_out) or layout.names[:1]
    return filled, tuple(name for name in filled if name in nulls)


def _set_repeats_apart(encoded: EncodedRows, later: NDArray[np.int64], first: NDArray[np.int64]) -> EncodedRows:
    """Drop the rows `later` that equal their row `first`, and move the other ones of `later` to the end."""
    rows, entry = encoded.rows, encoded.row_entry
    same = np.asarray(pc.equal(rows.take(pa.array(later)), rows.take(pa.array(first))))
    is_first = np.ones(len(rows), bool)
    is_first[later] = False
    kept = np.flatnonzero(is_first)
    order = np.concatenate([kept, later[~same]])
    first_rows = np.searchsorted(kept, first[same]).tolist()
    repeats = tuple(zip(first_rows, entry[later[same]].tolist(), strict=True))
    return replace(encoded, rows=rows.take(pa.array(order)), unique=len(kept), row_entry=entry[order], repeats=repeats)
