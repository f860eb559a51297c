"""Reads the undrained ranges of a stream as batches, ready for COPY."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import redis

from infra.connections.clients import Clients
from infra.connections.replica import Replica
from tasks.base.addresses import IdRange
from tasks.base.step import step
from tasks.columns.batch import Batch, BatchLimits, BatchReader
from tasks.columns.decode import TimeWindow
from tasks.columns.entries import UNREAD, EntryColumns, concat_entries
from tasks.columns.row_layout import RowLayout
from tasks.streams.pages import PAGE_LIMITS, AbsenceRecord, PageLimits, Pages
from tasks.streams.replica_pages import ReplicaPages
from tasks.streams.tail import Tail

_PAGE_GROWTH = 8  # at most, from one page to the next
# The database waits for the first batch. So that is small, and each of the next ones twice as large.
_FIRST_SHARE = 8
_LEAST_FIRST_ROWS = 5_000  # smaller batches cost more than they save


class Reader:
    """Reads the undrained ranges of a stream, batch by batch.

    `gaps`: these ranges. `tail`: the tail of the stream when they were planned, which proves every page (`pages.py`).
    `ledger_name`: the name of the stream in the ledger, if it is not `stream`. `starts_small`: whether the database
    waits for the first batch. `replica`: read its pages if possible. A `read` that fails leaves the position unchanged,
    so it can be repeated.
    """

    def __init__(
        self,
        client: redis.Redis,
        stream: str,
        gaps: Sequence[IdRange],
        tail: Tail,
        limits: BatchLimits,
        layout: RowLayout,
        window: TimeWindow,
        max_events: int | None = None,
        ledger_name: str | None = None,
        absence: AbsenceRecord | None = None,
        page_limits: PageLimits = PAGE_LIMITS,
        starts_small: bool = False,
        replica: Replica | None = None,
    ) -> None:
        self._pages: Pages | ReplicaPages = Pages(client, stream, tail, absence, page_limits)
        if replica is not None:
            pages = Pages(replica.client, stream, tail, AbsenceRecord(), page_limits)
            self._pages = ReplicaPages(replica, pages, self._pages)
        self.stream = stream
        self._ledger_name = ledger_name or stream
        self._gaps = list(gaps)
        self._limits = limits
        self._layout = layout
        self._window = window
        self._remaining = max_events
        self._page_limits = page_limits
        self._page = page_limits.first_entries
        self._share = _FIRST_SHARE if starts_small and limits.rows >= _FIRST_SHARE * _LEAST_FIRST_ROWS else 1

    @property
    def at_end(self) -> bool:
        """Whether there is nothing more to read."""
        return not self._gaps or self._remaining == 0

    def read(self) -> Batch | None:
        """The next batch, or None at the end.

        A range whose entries are all deleted becomes a batch without rows, so that the ledger has no gap. Raises
        `StreamAway` and `redis.RedisError`.
        """
        if self.at_end:
            return None
        gap = self._gaps[0]
        rows, most_bytes = self._limits.rows // self._share, self._limits.bytes // self._share
        rows = rows if self._remaining is None else min(rows, self._remaining)
        pages: list[list[EntryColumns]] = []
        count = size = 0
        start = gap.start
        while start < gap.stop and count < rows and size < most_bytes:
            groups, start = self._pages.fetch(start, gap.stop, min(self._page, rows - count))
            if groups:
                pages.append(groups)
                entries, nbytes = self._adapt(groups)
                count += entries
                size += nbytes
        batch = Batch(self._ledger_name, IdRange(gap.start, start), concat_entries(pages), self._layout, self._window)
        if start < gap.stop:
            self._gaps[0] = IdRange(start, gap.stop)
        else:
            del self._gaps[0]
        if self._remaining is not None:
            self._remaining -= count
        self._share = max(1, self._share // 2)
        return batch

    def sample(self, count: int) -> list[EntryColumns]:
        """At most `count` of the next entries, without those too large to be read. Does not move the position."""
        if not self._gaps:
            return []
        groups, _ = self._pages.fetch(self._gaps[0].start, self._gaps[0].stop, count)
        return [group for group in groups if group.keys != (UNREAD,)]

    def pages(self) -> Iterator[list[EntryColumns]]:
        """All remaining entries, page by page. Does not move the position."""
        for gap in self._gaps:
            start = gap.start
            while start < gap.stop:
                groups, start = self._pages.fetch(start, gap.stop, self._page)
                if groups:
                    self._adapt(groups)
                    yield groups

    def _adapt(self, groups: Sequence[EntryColumns]) -> tuple[int, int]:
        """Choose the size of the next page from this one. Returns the number of its entries, and their bytes."""
        entries, nbytes = sum(map(len, groups)), sum(group.nbytes for group in groups)
        self._page = next_page(self._page_limits, self._page, entries, nbytes)
        return entries, nbytes


def next_page(limits: PageLimits, page: int, entries: int, nbytes: int) -> int:
    """How many entries to request next, after a request for `page` returned `entries` with `nbytes` in total."""
    targets = ((limits.entries, limits.bytes), (limits.small_entries, limits.small_bytes))
    fitting = max(min(most, entries * size // max(1, nbytes)) for most, size in targets)
    return max(1, min(fitting, page * _PAGE_GROWTH))


@step("read")
def read(clients: Clients, reader: BatchReader) -> Batch | None:
    """`BatchReader.read`, as a task."""
    with clients.translate_errors(f"read {reader.stream}"):
        return reader.read()
