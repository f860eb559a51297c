"""Inserts entries that were taken from the quarantine, in the transaction that took them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psycopg
import pyarrow as pa

from tasks.base.addresses import IdRange, parse_id
from tasks.columns.batch import Batch
from tasks.columns.decode import Fault, TimeWindow
from tasks.columns.entries import EntryColumns, page_to_columns
from tasks.columns.row_layout import RowLayout
from tasks.table.insert import InsertResult, InsertRoute, insert_all
from tasks.table.new_chunks import NewChunkLimit


@dataclass(eq=False, slots=True)  # not frozen: that takes four times as long
class TakenEntry:
    """An entry that waited, or a part of one. `replayed`: its fields with the changes."""

    entry: str
    part: int
    fields: Sequence[bytes]
    replayed: Sequence[bytes]

    @property
    def same(self) -> bool:
        return self.fields is self.replayed or list(self.fields) == list(self.replayed)


class Replayer:
    """Inserts taken entries, and counts them. `faults`: of those that are still bad. `route`: for the next insert.

    `added`: rows by table. `min_time`: before none of them; None if they have no times.
    """

    def __init__(
        self, connection: psycopg.Connection, stream: str, window: TimeWindow, new_chunks: NewChunkLimit | None,
        route: InsertRoute,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._stream = stream
        self._window = window
        self._new_chunks = new_chunks
        self.route = route
        self.inserted = 0
        self.duplicates = 0
        self.added: Counter[str] = Counter()
        self.min_time: int | None = None
        self.faults: dict[TakenEntry, Fault] = {}

    def replay(self, taken: Sequence[TakenEntry], layout: RowLayout) -> None:
        """Insert entries that become one row each."""
        if not taken:
            return
        # The id of an entry may occur with several parts, so the groups are made from the positions in `taken`.
        groups = page_to_columns([(b"%d" % position, one.replayed) for position, one in enumerate(taken)])
        positions = [int(position) for group in groups for position in group.ids.to_pylist()]
        groups = [replace(group, ids=_entry_ids(taken, group)) for group in groups]
        batch, outcome = self._insert(taken, groups, layout, self.route)
        self.route = outcome.next_route
        self.inserted += outcome.inserted
        self.duplicates += outcome.duplicates
        self._count_rows(batch, outcome)
        for fault in (*batch.encoded.faults, *outcome.faults):
            self.faults[taken[positions[fault.entry]]] = fault

    def replay_whole(self, one: TakenEntry, layout: RowLayout) -> None:
        """Insert all rows of an entry, or none if one of them has a fault."""
        with self._connection.transaction():
            groups = page_to_columns([(one.entry.encode(), list(one.replayed))])
            batch, outcome = self._insert([one], groups, layout, InsertRoute.MERGE)
            if faults := (*batch.encoded.faults, *outcome.faults):
                self.faults[one] = faults[0]
                raise psycopg.Rollback
            self.inserted += outcome.inserted > 0
            self.duplicates += outcome.inserted == 0
            self._count_rows(batch, outcome)

    def _count_rows(self, batch: Batch, outcome: InsertResult) -> None:
        if outcome.inserted:
            self.added.update(outcome.by_table)
            times = [time for time in (self.min_time, batch.encoded.min_time) if time is not None]
            self.min_time = min(times, default=None)

    def _insert(
        self, taken: Sequence[TakenEntry], groups: Sequence[EntryColumns], layout: RowLayout, route: InsertRoute
    ) -> tuple[Batch, InsertResult]:
        ids = IdRange(parse_id(taken[0].entry), parse_id(taken[-1].entry) + 1)
        batch = Batch(self._stream, ids, groups, layout, self._window)
        if self._new_chunks is not None:
            batch = self._new_chunks.admit(self._connection, batch)
        return batch, insert_all(self._connection, batch.tables, route)


def _entry_ids(taken: Sequence[TakenEntry], group: EntryColumns) -> pa.Array:
    return pa.array([taken[int(position)].entry.encode() for position in group.ids.to_pylist()], pa.binary())
