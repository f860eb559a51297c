"""Pages of a stream, with proof that entries missing from a page were trimmed or deleted, not just away for a moment.

An empty XRANGE proves nothing. The stream may have been renamed, swapped (SWAPDB) or deleted to be restored, or Redis
may serve an older or empty data set for a moment. If such a reply were taken for «all deleted», the ledger would record
a range as drained although no run has read it.

**What counts as proof.** A page, `XINFO STREAM`, and the entry that was the last one when the drain was planned, all
read in one transaction (MULTI/EXEC, one round trip). If `why_not_continued` finds no contradiction, it is the same
stream at that very moment. Then an entry missing from the page was removed: a stream only grows at its end, so a
stream that has the planned last entry has, or had, all entries before it.

**When proof is needed.** For the first page of a range, and for each page that is shorter than requested, since only
such a page claims that nothing follows. A full page after another one needs no proof of its own. It starts with the
last entry of the page before, and both copies must be equal, id and fields: this is its link. So each page of a range
is linked to the one before, and the first and the last are proven. A page whose link is missing (the entry was just
trimmed, or this is another stream) is requested again with proof. This costs one round trip per range: its last page is
read twice.

**Interleavings that this was checked against** (`test_pages.py` plays each of them before every command):
1. Away during a page, back before the next: the page is short or lacks its link, and the proven repetition is whole.
2. Away from page 3 to the end of the batch: the proof says that the stream does not exist, and nothing is returned.
3. Away between a short page and its proof, or back between them: the short page is discarded, the proven one counts.
4. Another stream of the same name for some full pages (SWAPDB, a restored copy) with ids in the same range: no link,
   unless it has the same entry with the same content, and then it is a copy of this stream.
5. Another stream from a first page to a short page: both are proven, and it lacks the planned last entry.
6. An older copy: its last id or its entries-added is less than planned.
7. An empty volume that producers write to at once: its last id is greater, but it lacks the planned last entry. If that
   entry had been trimmed or deleted, it holds more entries than were added since, or fewer were removed from it.
8. A copy made after the plan, and restored: it has the planned last entry, so everything up to it. It is accepted.
9. XTRIM, XDEL or MAXLEN at any of these moments: a link is missing or a page is short, and the proof finds the same
   stream.
10. Away during the proof of the settlement: the settlement is refused as well; see `tasks/ledger/settle.py`.
11. A retry of the same page: the position and the link have not moved.

**Sizes.** XRANGE limits entries, not bytes. A page that would exceed the limit of a reply (`limited_reply.py`) is
measured first, by a script that returns a number of entries and their bytes (`entry_sizes.py`). Exactly these are
requested then, with a proof that leaves the stream's first and last entries out. While entries are so large that few
fit into a reply, each page is measured before it is requested.

Not detected: a stream whose planned last entry was removed, replaced by a stream that had more entries and lost as
many. It looks like a loss, which `settle` counts and reports.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

import redis

from infra.errors.exceptions import Transient
from tasks.base.addresses import id_text, parse_id
from tasks.base.collector import collector_paused
from tasks.columns.entries import UNREAD, EntryColumns, RawEntry, page_to_columns
from tasks.streams.continuity import why_not_continued
from tasks.streams.entry_sizes import measure_command, measure_entries, read_measurement
from tasks.streams.limited_reply import Command, ReplyTooLarge, execute_limited
from tasks.streams.tail import Tail, inspect_abridged, inspect_limited

_PAGE_SHRINK = 8  # a page above `max_bytes` is requested again with an eighth of the entries

# `inspect_limited` or `inspect_abridged`
Inspection = Callable[..., tuple[Tail | None, bytes | None, list[Any]]]


class StreamAway(Transient):
    """The stream does not exist, or is another one, at this moment. Nothing of it may be recorded or trimmed.

    `reason`: why, as part of a sentence.
    """

    reason: str = ""


def stream_away(stream: str, doing: str, reason: str) -> StreamAway:
    """The error for a stream that is not the one that was planned. `doing`: the step, such as `plan`."""
    error = StreamAway(
        f"{doing}: stream {stream}: {reason}; nothing was recorded, and this run trims nothing; bring the stream"
        f" back, then try again; if it will not come back: spillway stream accept-rewind {stream}"
    )
    error.reason = reason
    return error


def oversized(size: int, most: int) -> str:
    """The reason why an entry of `size` bytes is in the quarantine without its fields."""
    return (
        f"expected at most {most:,} bytes (SPILLWAY_MAX_ENTRY_BYTES), found {size:,}; it was not read and stays in the"
        " stream; raise the limit, then redrive it before it is trimmed"
    )


class AbsenceRecord:
    """Records whether a stream was away at any moment of a run, even if a retry succeeded. Such a run trims nothing.

    All steps of a run share one. It can only change from False to True, so their order does not matter. A return value
    could not carry this: what a failed attempt of a step has seen is lost when the step is retried.
    """

    def __init__(self) -> None:
        self._event = Event()

    def add(self) -> None:
        """Record that a stream was away."""
        self._event.set()

    @property
    def any(self) -> bool:
        """Whether a stream was away."""
        return self._event.is_set()


@dataclass(frozen=True)
class PageLimits:
    """The size of pages. `first_entries`: of the first page, when the size of the entries is not known yet.

    `entries`, `bytes`: the targets for later pages. XRANGE limits entries, not bytes, so the number requested follows
    the size of the last entries. `small_entries`, `small_bytes`: the same for entries so small that more of them are
    requested. `max_bytes`: a larger page, which only a client whose replies are not limited can get, is requested again
    with fewer entries. `measured_bytes`: of a page that is measured before it is requested, unless it is one entry.
    `large_entry`: after an entry of that many bytes, the next page is measured. `max_entry`: an entry of more bytes is
    not read, or at least not kept: one with the field `UNREAD` takes its place.
    """

    first_entries: int
    entries: int
    bytes: int
    small_entries: int
    small_bytes: int
    max_bytes: int
    measured_bytes: int
    large_entry: int
    max_entry: int = 1 << 62


# While Redis answers an XRANGE it serves no other client. A reply consists of Python objects until it becomes columns.
# Both call for small pages. So does a jump in size: the page on which it happens has as many entries as before. Only
# small entries, whose page costs more than they do, come in larger pages. An Arrow column holds at most 2 GiB.
PAGE_LIMITS = PageLimits(
    first_entries=10, entries=250, bytes=1 << 20, small_entries=1_000, small_bytes=128 << 10,
    max_bytes=256 << 20, measured_bytes=16 << 20, large_entry=4 << 20,
)  # fmt: skip


class Pages:
    """Reads ranges of a stream that was planned with `tail`, page by page; see the module's docstring.

    A `fetch` that fails leaves the position unchanged. `absence`: records whether the stream was away.
    """

    def __init__(
        self,
        client: redis.Redis,
        stream: str,
        tail: Tail,
        absence: AbsenceRecord | None = None,
        limits: PageLimits = PAGE_LIMITS,
    ) -> None:
        self._limits = limits
        self._client = client
        self._stream = stream
        self._tail = tail
        self._link: RawEntry | None = None  # the last entry of the page before
        self._large = False  # the entries of the page before are large
        self._absence = absence or AbsenceRecord()

    def fetch(self, start: int, stop: int, count: int) -> tuple[list[EntryColumns], int]:
        """At most `count` entries from `start` to before `stop`, as columns, and the id at which to continue.

        Raises `StreamAway` if the stream does not exist or is another one, `redis.RedisError`.
        """
        while True:
            with collector_paused():
                page, resume = self._page(start, stop, count)
                groups = page_to_columns(page) if page else []
            size = sum(group.nbytes for group in groups)
            if len(page) <= 1 or size <= self._limits.max_bytes:
                unread = bool(page) and page[0][1][0] == UNREAD
                self._large = unread or size >= self._limits.large_entry * max(1, len(page))
                self._link = page[-1] if page and not self._large else None
                return groups if size <= self._limits.max_entry else self._without_oversized(page), resume
            count = max(1, count // _PAGE_SHRINK)

    def _page(self, start: int, stop: int, count: int) -> tuple[Sequence[RawEntry], int]:
        """A page of at most `count` entries, and the id at which to continue."""
        if not self._large:
            try:
                page = self._linked(start, stop, count)
                if page is None:
                    page = self._proven(inspect_limited, start, stop, count)
                return page, parse_id(page[-1][0]) + 1 if len(page) == count else stop
            except ReplyTooLarge:
                pass
        measured = (self._stream, (start, stop), count, self._limits.measured_bytes, self._limits.max_entry)
        fitting = measure_entries(self._client, *measured)
        if fitting.entries == 1 and fitting.bytes > self._limits.max_entry:  # once more, with proof
            fitting = read_measurement(self._prove(inspect_abridged, start, stop, measure_command(*measured)))
            if fitting.entries == 1 and fitting.bytes > self._limits.max_entry:
                return [(id_text(fitting.stop - 1).encode(), self._oversized(fitting.bytes))], fitting.stop
        upto = fitting.stop if fitting.entries else stop
        page = self._proven(inspect_abridged, start, upto, max(1, fitting.entries))
        if fitting.bytes > self._limits.bytes:
            self._client.ping()  # hiredis keeps the memory of a reply until the next one
        # Not `upto` for a full page: if the stream was away during the measurement, more may follow.
        return page, parse_id(page[-1][0]) + 1 if len(page) == max(1, fitting.entries) else upto

    def _linked(self, start: int, stop: int, count: int) -> Sequence[RawEntry] | None:
        """A full page that is linked to the page before, or None."""
        link = self._link
        if link is None or parse_id(link[0]) != start - 1:
            return None
        (reply,) = execute_limited(self._client, [("XRANGE", *self._span(start - 1, stop, count + 1))])
        if isinstance(reply, Exception):
            raise reply
        found: Sequence[RawEntry] = reply
        return found[1:] if len(found) == count + 1 and found[0] == link else None

    def _proven(self, inspect: Inspection, start: int, stop: int, count: int) -> Sequence[RawEntry]:
        """A page of any length, with proof from the same moment."""
        page: Sequence[RawEntry] = self._prove(inspect, start, stop, ("XRANGE", *self._span(start, stop, count)))
        return page

    def _prove(self, inspect: Inspection, start: int, stop: int, command: Command) -> Any:
        """The reply to a command about these ids, with proof from the same moment."""
        now, hash_now, (reply,) = inspect(self._client, self._stream, self._tail.last, command)
        if reason := why_not_continued(self._tail, now, hash_now):
            self._absence.add()
            raise stream_away(self._stream, f"read {id_text(start)}..{id_text(stop - 1)}", reason)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _without_oversized(self, page: Sequence[RawEntry]) -> list[EntryColumns]:
        """The columns of a page that may have oversized entries: each of these becomes one without its fields."""
        sizes = [sum(map(len, fields)) for _, fields in page]
        most = self._limits.max_entry
        kept = [entry for entry, size in zip(page, sizes, strict=True) if size <= most]
        others = [(entry[0], self._oversized(size)) for entry, size in zip(page, sizes, strict=True) if size > most]
        return [group for entries in (kept, others) if entries for group in page_to_columns(entries)]

    def _oversized(self, size: int) -> list[bytes]:
        return [UNREAD, oversized(size, self._limits.max_entry).encode()]

    def _span(self, start: int, stop: int, count: int) -> tuple[str, str, str, str, int]:
        return self._stream, id_text(start), id_text(stop - 1), "COUNT", count
