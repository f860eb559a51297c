"""Read a range of a stream as one batch, ready to be copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import redis
from numpy.typing import NDArray

from infra.connections import Clients
from infra.mapping import Mapping
from tasks.columns.decode import Closed, Fault, Window, decode
from tasks.columns.encode import encode, repeats
from tasks.columns.entries import Group, merge_groups
from tasks.ids import IdRange, parse_id
from tasks.proof import Absence, Pages
from tasks.step import step
from tasks.stream import Tail

# A batch comes and goes as blocks of megabytes, which this allocator gives back to the system: 25 MB less at the peak.
pa.set_memory_pool(pa.system_memory_pool())

# Redis serves nobody else while it answers one XRANGE, and a reply is Python objects until it is columns: both want
# small pages. XRANGE counts entries, not bytes, so the size of a page follows that of the entries just met.
_PAGE_ENTRIES = 250
_PAGE_BYTES = 1 << 20
_FIRST_PAGE_ENTRIES = 10  # nothing is known of their size yet
_PAGE_GROWTH = 8  # at most, from one page to the next

_HOUR_US = 3_600_000_000


class Batch:
    """The entries of one id range, encoded. Not a dataclass: Prefect would walk through its fields.

    `rows`: one encoded COPY row an event, with the columns of `own` besides ours (see `encode`). The keys `(event_id,
    time)` of the first `unique` rows all differ; the others repeat one of them with other bytes, and are in the order
    of the stream. `row_entry`: the place in the batch of each row's entry. `repeats`: (row, entry) of the entries left
    out because they repeat that row to the byte.
    `times`: of all events, in no order; `moments`: of one event of each hour that has any. Microseconds since 1970.
    """

    def __init__(
        self, stream: str, ids: IdRange, groups: Sequence[Group], mapping: Mapping | None, window: Window
    ) -> None:
        self.stream = stream
        self.ids = ids
        self.groups = groups
        self.own = () if mapping is None else mapping.own
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
        if (found := repeats(events)) is not None:
            self._set_apart(*found)
        self.min_time = int(events.time.min()) if len(events) else None
        self.max_time = int(events.time.max()) if len(events) else None
        self.times = events.time
        self.moments = events.time[np.unique(events.time // _HOUR_US, return_index=True)[1]]

    def leave_out(self, closed: Closed) -> None:
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


@dataclass(frozen=True)
class Limits:
    """What bounds a batch: entries, and bytes of their fields (passed by one page at most)."""

    rows: int
    bytes: int


class Reader:
    """Goes through the ranges of a stream that are left to drain, a batch at a time.

    `tail`: of the stream when the ranges were planned, by which every page is proven (`tasks/proof.py`). `books`: the
    name of the stream in the ledger, where it is another one. A `read` that fails has moved nothing: call it again.
    """

    def __init__(
        self,
        client: redis.Redis,
        stream: str,
        gaps: Sequence[IdRange],
        tail: Tail,
        limits: Limits,
        mapping: Mapping | None,
        window: Window,
        max_events: int | None = None,
        books: str | None = None,
        absence: Absence | None = None,
    ) -> None:
        self._pages = Pages(client, stream, tail, absence)
        self.stream = stream
        self._books = books or stream
        self._gaps = list(gaps)
        self._limits = limits
        self._mapping = mapping
        self._window = window
        self._left = max_events
        self._page = _FIRST_PAGE_ENTRIES

    def read(self) -> Batch | None:
        """The next batch, or None when all is read.

        A range without entries (all deleted) gives a batch without rows, so that the ledger has no gap.
        """
        if not self._gaps or self._left == 0:
            return None
        gap = self._gaps[0]
        rows = self._limits.rows if self._left is None else min(self._limits.rows, self._left)
        pages: list[list[Group]] = []
        count = size = 0
        start = gap.start
        while start < gap.stop and count < rows and size < self._limits.bytes:
            groups, start = self._pages.fetch(start, gap.stop, min(self._page, rows - count))
            met = sum(map(len, groups))
            if met:
                pages.append(groups)
                count += met
                bytes_read = sum(group.nbytes for group in groups)
                size += bytes_read
                fitting = met * _PAGE_BYTES // max(1, bytes_read)
                self._page = max(1, min(_PAGE_ENTRIES, fitting, self._page * _PAGE_GROWTH))
        batch = Batch(self._books, IdRange(gap.start, start), merge_groups(pages), self._mapping, self._window)
        if start < gap.stop:
            self._gaps[0] = IdRange(start, gap.stop)
        else:
            del self._gaps[0]
        if self._left is not None:
            self._left -= count
        return batch

    def sample(self, count: int) -> list[Group]:
        """The next entries, without moving."""
        if not self._gaps:
            return []
        return self._pages.fetch(self._gaps[0].start, self._gaps[0].stop, count)[0]

    def pages(self) -> Iterator[list[Group]]:
        """All that is left, a page at a time, without moving."""
        for gap in self._gaps:
            start = gap.start
            while start < gap.stop:
                groups, start = self._pages.fetch(start, gap.stop, self._page)
                if groups:
                    met, size = sum(map(len, groups)), sum(group.nbytes for group in groups)
                    fitting = met * _PAGE_BYTES // max(1, size)
                    self._page = max(1, min(_PAGE_ENTRIES, fitting, self._page * _PAGE_GROWTH))
                    yield groups


class BatchReader(Protocol):
    """`Reader`, or what reads something else in the same way."""

    stream: str

    def read(self) -> Batch | None:
        """The next batch, or None when all is read; one that fails has moved nothing."""


@step("read")
def read(clients: Clients, reader: BatchReader) -> Batch | None:
    """`BatchReader.read`, as a task."""
    with clients.explained(f"read {reader.stream}"):
        return reader.read()
