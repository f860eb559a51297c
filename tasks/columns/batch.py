"""A range of entries as one batch: decoded and encoded, ready to be copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.mapping import Mapping
from tasks.base.addresses import IdRange, parse_id
from tasks.columns.decode import Fault, RefusedTimes, TimeWindow, decode
from tasks.columns.encode import encode, find_repeats
from tasks.columns.entries import EntryColumns

_HOUR_US = 3_600_000_000


class Batch:
    """The entries of one id range, encoded. Not a dataclass: Prefect would walk through its fields.

    `rows`: one encoded COPY row an event, with the `extra_columns` besides ours (see `encode`). The keys `(event_id,
    time)` of the first `unique` rows all differ; the others repeat one of them with other bytes, and are in the order
    of the stream. `row_entry`: the place in the batch of each row's entry. `repeats`: (row, entry) of the entries left
    out because they repeat that row to the byte.
    `times`: of all events, in no order; `moments`: of one event of each hour that has any. Microseconds since 1970.
    """

    def __init__(
        self, stream: str, ids: IdRange, groups: Sequence[EntryColumns], mapping: Mapping | None, window: TimeWindow
    ) -> None:
        self.stream = stream
        self.ids = ids
        self.groups = groups
        self.extra_columns = () if mapping is None else mapping.extra_columns
        self._mapping = mapping
        self._window = window
        self.read = sum(len(group) for group in groups)
        self.bytes = sum(group.nbytes for group in groups)
        self._decode()

    def _decode(self) -> None:
        events = decode(self.groups, self._mapping, self._window)
        self.faults: Sequence[Fault] = events.faults
        self.rows: pa.Array = encode(events) if len(events) else pa.array([], pa.binary())
        self.row_entry: NDArray[np.int64] = events.entry
        self.unique = len(events)
        self.repeats: Sequence[tuple[int, int]] = ()
        if (found := find_repeats(events)) is not None:
            self._set_apart(*found)
        self.min_time = int(events.time.min()) if len(events) else None
        self.max_time = int(events.time.max()) if len(events) else None
        self.times = events.time
        self.moments = events.time[np.unique(events.time // _HOUR_US, return_index=True)[1]]

    def leave_out(self, closed: RefusedTimes) -> None:
        """Decode again, with the events of these times as entries at fault; so do the halves of a split."""
        self._window = replace(self._window, closed=closed)
        self._decode()

    def _set_apart(self, later: NDArray[np.int64], first: NDArray[np.int64]) -> None:
        same = np.asarray(pc.equal(self.rows.take(pa.array(later)), self.rows.take(pa.array(first))))
        keep = np.ones(len(self.rows), bool)
        keep[later] = False
        kept = np.flatnonzero(keep)
        self.unique = len(kept)
        places = np.searchsorted(kept, first[same])
        self.repeats = list(zip(places.tolist(), self.row_entry[later[same]].tolist(), strict=True))
        rows = np.concatenate([kept, later[~same]])
        self.rows = self.rows.take(pa.array(rows))
        self.row_entry = self.row_entry[rows]

    def raw(self, entry: int) -> tuple[str, list[bytes]]:
        """Id and fields, as they came, of the entry at a place in the batch."""
        for group in self.groups:
            if entry < len(group):
                return group.raw(entry)
            entry -= len(group)
        raise IndexError(entry)

    def split(self) -> tuple[Batch, Batch]:
        """The earlier and the later half of the entries, of which there are two at least."""
        numbers = [np.array([parse_id(i) for i in group.ids.to_pylist()], object) for group in self.groups]
        middle = sorted(number for ids in numbers for number in ids)[self.read // 2]
        halves = []
        for ids in (IdRange(self.ids.start, middle), IdRange(middle, self.ids.stop)):
            rows = [np.flatnonzero((of >= ids.start) & (of < ids.stop)) for of in numbers]
            groups = [group.take(at) for group, at in zip(self.groups, rows, strict=True) if len(at)]
            halves.append(Batch(self.stream, ids, groups, self._mapping, self._window))
        return halves[0], halves[1]

    def release(self) -> None:
        """Let go of the data; counts and ids stay. Prefect keeps what a task was given for as long as the flow runs."""
        self.groups = ()
        self.rows = pa.array([], pa.binary())
        self.row_entry = self.times = np.zeros(0, np.int64)
        self.repeats = ()
