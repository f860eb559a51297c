"""Read a range of a stream as one batch, ready to be copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import redis

from infra.connections.clients import Clients
from infra.mapping import Mapping
from tasks.base.addresses import IdRange
from tasks.base.step import step
from tasks.columns.batch import Batch
from tasks.columns.decode import TimeWindow
from tasks.columns.entries import EntryColumns, concat_entries
from tasks.streams.pages import AbsenceRecord, Pages
from tasks.streams.tail import Tail

# Redis serves nobody else while it answers one XRANGE, and a reply is Python objects until it is columns: both want
# small pages. XRANGE counts entries, not bytes, so the size of a page follows that of the entries just met.
_PAGE_ENTRIES = 250
_PAGE_BYTES = 1 << 20
_FIRST_PAGE_ENTRIES = 10  # nothing is known of their size yet
_PAGE_GROWTH = 8  # at most, from one page to the next

_HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class BatchLimits:
    """What bounds a batch: entries, and bytes of their fields (passed by one page at most)."""

    rows: int
    bytes: int


class Reader:
    """Goes through the ranges of a stream that are left to drain, a batch at a time.

    `tail`: of the stream when the ranges were planned, by which every page is proven (`pages.py`). `ledger_name`: the
    name of the stream in the ledger, where it is another one. A `read` that fails has moved nothing: call it again.
    """

    def __init__(
        self,
        client: redis.Redis,
        stream: str,
        gaps: Sequence[IdRange],
        tail: Tail,
        limits: BatchLimits,
        mapping: Mapping | None,
        window: TimeWindow,
        max_events: int | None = None,
        ledger_name: str | None = None,
        absence: AbsenceRecord | None = None,
    ) -> None:
        self._pages = Pages(client, stream, tail, absence)
        self.stream = stream
        self._ledger_name = ledger_name or stream
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
        pages: list[list[EntryColumns]] = []
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
        batch = Batch(self._ledger_name, IdRange(gap.start, start), concat_entries(pages), self._mapping, self._window)
        if start < gap.stop:
            self._gaps[0] = IdRange(start, gap.stop)
        else:
            del self._gaps[0]
        if self._left is not None:
            self._left -= count
        return batch

    def sample(self, count: int) -> list[EntryColumns]:
        """The next entries, without moving."""
        if not self._gaps:
            return []
        return self._pages.fetch(self._gaps[0].start, self._gaps[0].stop, count)[0]

    def pages(self) -> Iterator[list[EntryColumns]]:
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
    with clients.translate_errors(f"read {reader.stream}"):
        return reader.read()
