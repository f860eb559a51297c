"""Entries to the rows of a COPY: decoded, encoded, and the repeats set apart. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.mapping.mapping import Mapping
from tasks.columns.decode import Events, Fault, TimeWindow, decode
from tasks.columns.encode import encode, find_repeats
from tasks.columns.entries import EntryColumns

_HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class EncodedRows:
    """The entries of a batch as n rows of a COPY, and the entries that give no row.

    `rows`: binary, n, one encoded row per event (see `encode`). The keys `(event_id, time)` of the first `unique` rows
    are all different. Each later row repeats one of them with other content; these are in stream order.
    `row_entry`: int64, n, the index in the batch of each row's entry.
    `repeats`: (row, entry) for each entry that repeats a row byte for byte and has no row of its own.
    `faults`: the entries that cannot become a row.
    `times`: int64, microseconds since 1970, one for each event in no particular order, repeats included.
    """

    rows: pa.Array
    unique: int
    row_entry: NDArray[np.int64]
    repeats: Sequence[tuple[int, int]]
    faults: Sequence[Fault]
    times: NDArray[np.int64]

    @property
    def min_time(self) -> int | None:
        """The earliest event time, in microseconds since 1970. None without events."""
        return int(self.times.min()) if len(self.times) else None

    @property
    def max_time(self) -> int | None:
        """The latest event time, in microseconds since 1970. None without events."""
        return int(self.times.max()) if len(self.times) else None

    @cached_property
    def hourly_times(self) -> NDArray[np.int64]:
        """One event time from each hour that has events, ascending, in microseconds since 1970."""
        return self.times[np.unique(self.times // _HOUR_US, return_index=True)[1]]


NO_ROWS = EncodedRows(pa.array([], pa.binary()), 0, np.zeros(0, np.int64), (), (), np.zeros(0, np.int64))


def encode_entries(groups: Sequence[EntryColumns], mapping: Mapping | None, window: TimeWindow) -> EncodedRows:
    """Decode and encode the entries of a batch, and set the repeats apart. Never fails: a bad entry becomes a fault."""
    events = decode(groups, mapping, window)
    if not len(events):
        return EncodedRows(NO_ROWS.rows, 0, events.entry, (), events.faults, events.time)
    rows = encode(events)
    found = find_repeats(events)
    if found is None:
        return EncodedRows(rows, len(events), events.entry, (), events.faults, events.time)
    return _set_repeats_apart(events, rows, *found)


def _set_repeats_apart(
    events: Events, rows: pa.Array, later: NDArray[np.int64], first: NDArray[np.int64]
) -> EncodedRows:
    """Drop the rows `later` that equal their row `first`, and move the other ones of `later` to the end."""
    same = np.asarray(pc.equal(rows.take(pa.array(later)), rows.take(pa.array(first))))
    is_first = np.ones(len(rows), bool)
    is_first[later] = False
    kept = np.flatnonzero(is_first)
    order = np.concatenate([kept, later[~same]])
    first_rows = np.searchsorted(kept, first[same]).tolist()
    repeats = tuple(zip(first_rows, events.entry[later[same]].tolist(), strict=True))
    return EncodedRows(rows.take(pa.array(order)), len(kept), events.entry[order], repeats, events.faults, events.time)
