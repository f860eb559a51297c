"""Compress what a backfill touches: chunks that it has passed while it goes on, and the rest at its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from threading import Event

from prefect.futures import PrefectFuture

from infra.connections.clients import Clients
from infra.errors.exceptions import SpillwayError
from tasks.backfill.chunk_map import find_to_compress
from tasks.backfill.source import BackfillSource
from tasks.backfill.throttle import LoadThrottle
from tasks.base.step import step
from tasks.maintain.compression import Recompression, columnstore_sql, recompress_chunk
from tasks.maintain.contention import ChunkBusy, ChunkGone

_PORTIONS = 2  # for each connection, so that all end at about the same time
_LOOK_EVERY = 4  # loads


@step("compress", retries=1)
def compress_portion(clients: Clients, portion: Sequence[Recompression], stopping: Event) -> int:
    """Compress some chunks, until `stopping` is set; returns how many. Those that others use all the time are left to
    the maintain flow."""
    done = 0
    with clients.translate_errors("compress"), clients.postgres() as connection:
        words = columnstore_sql(connection)
        for again in portion:
            if stopping.is_set():
                break
            try:
                recompress_chunk(connection, again, words)
                done += 1
            except (ChunkBusy, ChunkGone):
                continue
    return done


@step("compress behind", retries=1)
def compress_behind(clients: Clients, days: Sequence[int], before: int, stopping: Event) -> int:
    """Compress the chunks of the days that end before the day `before`, as `compress_portion` does."""
    return compress_portion.fn(clients, find_to_compress.fn(clients, days, before), stopping)


class Compressor:
    """Loading waits for the disk, compressing for the processor: so chunks are compressed as soon as all is in them,
    beside the loads, and what is left at the end by several connections."""

    def __init__(self, clients: Clients, sources: Sequence[BackfillSource]) -> None:
        self._clients = clients
        self._days = sorted({day for source in sources for day in source.all_days if day})
        self._behind: PrefectFuture[int] | None = None
        self._running: list[tuple[PrefectFuture[int], float]] = []
        self._stopping = Event()
        self._loads = 0
        self.done = 0

    def passed(self, day: int) -> None:
        """One more load has ended, and nothing is left to load before `day` (ms since 1970)."""
        self._loads += 1
        if self._loads < _LOOK_EVERY or (self._behind is not None and not self._behind.state.is_final()):
            return
        self._loads = 0
        self._wait()
        days = [d for d in self._days if d < day]
        self._behind = compress_behind.submit(self._clients, days, day, self._stopping)

    def finish(self, room: LoadThrottle) -> None:
        """Compress all that is left, and give drains their room. Raises `SpillwayError`."""
        self._wait()
        if not self._days:
            return
        due = find_to_compress(self._clients, self._days)
        count = room.parallel * _PORTIONS
        portions = [due[start::count] for start in range(count)]
        waiting = [portion for portion in portions if portion]
        while waiting or self._running:
            while waiting and len(self._running) < room.loads():
                future = compress_portion.submit(self._clients, waiting.pop(), self._stopping)
                self._running.append((future, time.monotonic()))
            future, began = self._running[0]
            self.done += future.result()
            del self._running[0]
            if waiting:
                room.give_way(time.monotonic() - began)

    def close(self) -> None:
        """Begin no other chunk, and wait for those under way, after a cancellation too: a flow that is stopped would go
        on for as long as all of them take, and their connections are closed with it."""
        self._stopping.set()
        for future in (*(future for future, _ in self._running), *([self._behind] if self._behind else [])):
            future.wait()

    def _wait(self) -> None:
        """For what goes on behind. What goes wrong there is tried again at the end, and no reason to stop loading."""
        if self._behind is not None:
            with suppress(SpillwayError):
                self.done += self._behind.result()
            self._behind = None
