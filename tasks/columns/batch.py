"""The entries of one id range, with their encoded rows: the unit that is read, loaded and committed together.

An entry has several positions on its way into the table. Each has one name:

- `entry`: its index in the batch, counted group after group. This is not the order of the stream.
- `stream_order`: its rank by id among the entries of the batch. Only the order counts, not the value.
- `row`: the index of its row in `EncodedRows.rows`. A fault and an exact repeat have no row.
- `number`: the number of its row in the staging table (`tasks.table.stage`).

Inside a module that handles one `EntryColumns` or `Events` at a time, `row` is an index into that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infra.mapping.mapping import Mapping
from tasks.base.addresses import IdRange, parse_id
from tasks.columns.decode import RefusedTimes, TimeWindow
from tasks.columns.encoded_rows import NO_ROWS, EncodedRows, encode_entries
from tasks.columns.entries import EntryColumns


@dataclass(frozen=True)
class BatchLimits:
    """The limits of a batch: entries, and bytes of their fields. The bytes may be exceeded by one page."""

    rows: int
    bytes: int


class Batch:
    """The entries of the id range `ids` of a stream, and the rows that they become.

    `read`: the number of entries. `bytes`: of their fields.
    Not a dataclass: Prefect would search its fields for futures.
    """

    def __init__(
        self, stream: str, ids: IdRange, groups: Sequence[EntryColumns], mapping: Mapping | None, window: TimeWindow
    ) -> None:
        self.stream = stream
        self.ids = ids
        self.read = sum(map(len, groups))
        self.bytes = sum(group.nbytes for group in groups)
        self.encoded: EncodedRows = encode_entries(groups, mapping, window)
        self._groups = groups
        self._mapping = mapping
        self._window = window

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """The user's own columns that each row brings."""
        return () if self._mapping is None else self._mapping.extra_columns

    def refusing(self, times: RefusedTimes) -> Batch:
        """The same entries, with a fault for each event at one of these times. Its halves refuse the same times."""
        return Batch(self.stream, self.ids, self._groups, self._mapping, replace(self._window, refused=times))

    def raw(self, entry: int) -> tuple[str, list[bytes]]:
        """Id and fields, as they arrived, of the entry at this index. Raises `IndexError` after the last one."""
        for group in self._groups:
            if entry < len(group):
                return group.raw(entry)
            entry -= len(group)
        raise IndexError(entry)

    def split(self) -> tuple[Batch, Batch]:
        """The earlier and the later half of the entries. There must be two entries or more."""
        ids_of_groups = [np.array([parse_id(i) for i in group.ids.to_pylist()], object) for group in self._groups]
        middle = sorted(entry_id for ids in ids_of_groups for entry_id in ids)[self.read // 2]
        return self._part(ids_of_groups, self.ids.start, middle), self._part(ids_of_groups, middle, self.ids.stop)

    def _part(self, ids_of_groups: Sequence[NDArray[np.object_]], start: int, stop: int) -> Batch:
        rows = [np.flatnonzero((ids >= start) & (ids < stop)) for ids in ids_of_groups]
        groups = [group.take(at) for group, at in zip(self._groups, rows, strict=True) if len(at)]
        return Batch(self.stream, IdRange(start, stop), groups, self._mapping, self._window)

    def release(self) -> None:
        """Free the entries and the rows; ids and counts stay. Prefect keeps a task's arguments until the flow ends."""
        self._groups = ()
        self.encoded = NO_ROWS


class BatchReader(Protocol):
    """The interface of batch readers: `Reader` for a stream, and the reader of a file."""

    stream: str

    def read(self) -> Batch | None:
        """The next batch, or None at the end. A call that fails leaves the position unchanged."""
