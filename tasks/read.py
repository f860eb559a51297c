"""Read a range of a stream as one batch, ready to be copied."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import redis
from numpy.typing import NDArray

from infra.connections import Clients
from infra.mapping import Mapping
from tasks.columns.decode import Fault, Window, decode
from tasks.columns.encode import encode, first_of_each_key
from tasks.columns.entries import Group, RawEntry, group_page, merge_groups
from tasks.ids import IdRange, id_text, parse_id
from tasks.step import step

# A batch comes and goes as blocks of megabytes, which this allocator gives back to the system: 25 MB less at the peak.
pa.set_memory_pool(pa.system_memory_pool())

# Redis serves nobody else while it answers one XRANGE, and a reply is Python objects until it is columns: both want
# small pages. XRANGE counts entries, not bytes, so the size of a page follows that of the entries just met.
_PAGE_ENTRIES = 250
_PAGE_BYTES = 1 << 20
_FIRST_PAGE_ENTRIES = 10  # nothing is known of their size yet
_PAGE_GROWTH = 8  # at most, from one page to the next


class Batch:
    """The entries of one id range, encoded. Not a dataclass: Prefect would walk through its fields.

    `rows`: one encoded COPY row an event, keys `(event_id, time)` all different. `row_entry`: the place in the batch
    of each row's entry. `repeated`: events left out because their key stands earlier in the batch.
    """

    def __init__(
        self, stream: str, ids: IdRange, groups: Sequence[Group], mapping: Mapping | None, window: Window
    ) -> None:
        self.stream = stream
        self.ids = ids
        self.groups = groups
        self.read = sum(len(group) for group in groups)
        self.bytes = sum(group.nbytes for group in groups)
        events = decode(groups, mapping, window)
        self.faults: Sequence[Fault] = events.faults
        keep = first_of_each_key(events)
        self.repeated = 0 if keep is None else len(events) - len(keep)
        if keep is not None:
            events = events.take(keep)
        self.row_entry: NDArray[np.int64] = events.entry
        self.rows: pa.Array = encode(events) if len(events) else pa.array([], pa.binary())
        self.min_time = int(events.time.min()) if len(events) else None
        self.max_time = int(events.time.max()) if len(events) else None

    def raw(self, entry: int) -> tuple[str, list[bytes]]:
        """Id and fields, as they came, of the entry at a place in the batch."""
        for group in self.groups:
            if entry < len(group):
                return group.raw(entry)
            entry -= len(group)
        raise IndexError(entry)

    def release(self) -> None:
        """Let go of the data; counts and ids stay. Prefect keeps what a task was given for as long as the flow runs."""
        self.groups = ()
        self.rows = pa.array([], pa.binary())
        self.row_entry = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Limits:
    """What bounds a batch: entries, and bytes of their fields (passed by one page at most)."""

    rows: int
    bytes: int


class Reader:
    """Goes through the ranges of a stream that are left to drain, a batch at a time.

    A `read` that fails has moved nothing: call it again.
    """

    def __init__(
        self,
        client: redis.Redis,
        stream: str,
        gaps: Sequence[IdRange],
        limits: Limits,
        mapping: Mapping | None,
        window: Window,
        max_events: int | None = None,
    ) -> None:
        self._client = client
        # The reply as hiredis gives it: parsing it into pairs and dicts would cost as much as reading it.
        self._client.set_response_callback("XRANGE", lambda reply, **_: reply)
        self.stream = stream
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
            wanted = min(self._page, rows - count)
            groups, last = self._fetch(start, gap.stop, wanted)
            met = sum(map(len, groups))
            if met:
                pages.append(groups)
                count += met
                bytes_read = sum(group.nbytes for group in groups)
                size += bytes_read
                fitting = met * _PAGE_BYTES // max(1, bytes_read)
                self._page = max(1, min(_PAGE_ENTRIES, fitting, self._page * _PAGE_GROWTH))
            start = last + 1 if met == wanted else gap.stop
        batch = Batch(self.stream, IdRange(gap.start, start), merge_groups(pages), self._mapping, self._window)
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
        return self._fetch(self._gaps[0].start, self._gaps[0].stop, count)[0]

    def _fetch(self, start: int, stop: int, count: int) -> tuple[list[Group], int]:
        """One page as columns, and the id of its last entry (-1 where it has none)."""
        with _collector_paused():
            reply: Any = self._client.execute_command(
                "XRANGE", self.stream, id_text(start), id_text(stop - 1), "COUNT", count
            )
            page: Sequence[RawEntry] = reply
            return (group_page(page), parse_id(page[-1][0])) if page else ([], -1)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """A reply is thousands of containers in no cycle: Python's collector would go through them all, again and again."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


@step("read")
def read(clients: Clients, reader: Reader) -> Batch | None:
    """`Reader.read`, as a task."""
    with clients.explained(f"read {reader.stream}"):
        return reader.read()
