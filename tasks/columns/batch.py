"""The entries of one id range, with their encoded rows: the unit that is read, loaded and committed together.

An entry has several positions on its way into the table. Each has one name:

- `entry`: its index in the batch, counted group after group. This is not the order of the stream. If entries are taken
  apart (`each`), each part counts as an entry here, and has a `part_number`.
- `stream_order`: its rank by id among the entries of the batch. Only the order counts, not the value.
- `row`: the index of its row in `EncodedRows.rows`. A fault and an exact repeat have no row.
- `number`: the number of its row in the staging table (`tasks.table.stage`).

Inside a module that handles one `EntryColumns` or `Events` at a time, `row` is an index into that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.base.addresses import IdRange, parse_id
from tasks.columns.decode import Fault, RefusedTimes, TimeWindow
from tasks.columns.encoded_rows import EncodedRows
from tasks.columns.entries import UNREAD, EntryColumns
from tasks.columns.parts import take_apart
from tasks.columns.routing import TableRows, rows_by_table
from tasks.columns.row_layout import RowLayout


@dataclass(frozen=True)
class BatchLimits:
    """The limits of a batch: entries, and bytes of their fields. The bytes may be exceeded by one page."""

    rows: int
    bytes: int


class Batch:
    """The entries of the id range `ids` of a stream, and the rows that they become.

    `read`: the number of entries. `count`: of parts, which differs only if an entry becomes several rows (see `Parts`).
    Entries that were not read (`UNREAD`) come last, and each is a part with a fault.
    `bytes`: of their fields. `tables`: the rows of each table. `encoded`: the faults and times of all tables, and the
    rows if there is one table.
    """

    def __init__(
        self, stream: str, ids: IdRange, groups: Sequence[EntryColumns], layout: RowLayout, window: TimeWindow
    ) -> None:
        self.stream = stream
        self.ids = ids
        self.layout = layout
        self.read = sum(map(len, groups))
        self.bytes = sum(group.nbytes for group in groups)
        unread = [group for group in groups if group.keys == (UNREAD,)]
        whole = [group for group in groups if group.keys != (UNREAD,)] if unread else groups
        self._groups: Sequence[EntryColumns] = [*whole, *unread]
        self._unread = sum(map(len, unread))
        self._parts = take_apart(whole, layout)
        self._window = window
        self.count = len(self._parts) + self._unread
        self.tables: tuple[TableRows, ...]
        self.encoded: EncodedRows
        self.tables, self.encoded = rows_by_table(self._parts, layout, window)
        if unread:
            reasons = [reason.as_py().decode() for group in unread for reason in group.values[0]]
            faults = [Fault(part, UNREAD.decode(), reason) for part, reason in enumerate(reasons, len(self._parts))]
            self.encoded = replace(self.encoded, faults=(*self.encoded.faults, *faults))

    def refusing(self, times: Mapping[str, RefusedTimes]) -> Batch:
        """The same entries, with a fault for each row at a time that its table refuses. Its halves refuse the same.

        `times`: by table, as `Table.regclass`.
        """
        return Batch(self.stream, self.ids, self._groups, self.layout, replace(self._window, refused=times))

    def raw(self, part: int) -> tuple[str, list[bytes]]:
        """Id and fields of the part at this index: of a whole entry as they arrived, of an element as its document, of
        an entry that was not read none.

        Raises `IndexError` after the last one.
        """
        if part >= (parts := len(self._parts)):
            return _raw(self._groups, self.read - self._unread + part - parts)[0], []
        if self.part_number(part):
            return _raw(self._parts.groups, part)
        return _raw(self._groups, part if self._parts.entry is None else int(self._parts.entry[part]))

    def entries_of(self, parts: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], EntryColumns]]:
        """What `raw` gives for each of the parts, as columns: groups, each with the positions in `parts` of its own."""
        numbers, count = self.part_numbers(parts), len(self._parts)
        whole = np.flatnonzero((parts < count) & (numbers == 0))
        entries = parts[whole] if self._parts.entry is None else self._parts.entry[parts[whole]]
        yield from _entries_at(self._groups, entries, whole)
        elements = np.flatnonzero(numbers)
        yield from _entries_at(self._parts.groups, parts[elements], elements)
        unread = np.flatnonzero(parts >= count)
        for positions, group in _entries_at(self._groups, self.read - self._unread + parts[unread] - count, unread):
            yield positions, EntryColumns(group.ids, (), ())

    def part_numbers(self, parts: NDArray[np.int64]) -> NDArray[np.int64]:
        """`part_number` of each."""
        numbers = self._parts.number
        if numbers is None:
            return np.zeros(len(parts), np.int64)
        return np.append(numbers, 0)[np.minimum(parts, len(numbers))]

    def part_number(self, part: int) -> int:
        """The position of a part in its entry's array, from 1 on. 0 for a whole entry."""
        numbers = self._parts.number
        return 0 if numbers is None or part >= len(numbers) else int(numbers[part])

    def split(self) -> tuple[Batch, Batch]:
        """The earlier and the later half of the entries. There must be two entries or more."""
        ids_of_groups = [np.array([parse_id(i) for i in group.ids.to_pylist()], object) for group in self._groups]
        middle = sorted(entry_id for ids in ids_of_groups for entry_id in ids)[self.read // 2]
        return self._part(ids_of_groups, self.ids.start, middle), self._part(ids_of_groups, middle, self.ids.stop)

    def _part(self, ids_of_groups: Sequence[NDArray[np.object_]], start: int, stop: int) -> Batch:
        rows = [np.flatnonzero((ids >= start) & (ids < stop)) for ids in ids_of_groups]
        groups = [group.take(at) for group, at in zip(self._groups, rows, strict=True) if len(at)]
        return Batch(self.stream, IdRange(start, stop), groups, self.layout, self._window)


def _entries_at(
    groups: Sequence[EntryColumns], indices: NDArray[np.int64], positions: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], EntryColumns]]:
    """The entries at these indices, counted group after group; those of each group with their `positions`."""
    for group in groups:
        here = (indices >= 0) & (indices < len(group))
        if here.any():
            yield positions[here], group.take(indices[here])
        indices = indices - len(group)


def _raw(groups: Sequence[EntryColumns], at: int) -> tuple[str, list[bytes]]:
    for group in groups:
        if at < len(group):
            return group.raw(at)
        at -= len(group)
    raise IndexError(at)


class BatchReader(Protocol):
    """The interface of batch readers: `Reader` for a stream, and the reader of a file."""

    stream: str

    def read(self) -> Batch | None:
        """The next batch, or None at the end. A call that fails leaves the position unchanged."""
