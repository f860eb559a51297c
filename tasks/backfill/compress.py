"""Compress what a backfill touches: chunks that it has passed while it goes on, and the rest at its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from prefect.futures import PrefectFuture

from infra.connections import Clients
from infra.errors import SpillwayError
from tasks.backfill.chunks import find_to_compress
from tasks.backfill.priority import Room
from tasks.backfill.source import Source
from tasks.maintain.compress import Again, compress_again, words_of
from tasks.maintain.undisturbed import Busy, Gone
from tasks.step import step

_PORTIONS = 2  # for each connection, so that all end at about the same time
_LOOK_EVERY = 4  # loads


@step("compress", retries=1)
def compress_portion(clients: Clients, portion: Sequence[Again]) -> int:
    """Compress some chunks; returns how many. Those that others use all the time are left to the maintain flow."""
    done = 0
    with clients.explained("compress"), clients.postgres() as connection:
        words = words_of(connection)
        for again in portion:
            try:
                compress_again(connection, again, words)
                done += 1
            except (Busy, Gone):
                continue
    return done


@step("compress behind", retries=1)
def compress_behind(clients: Clients, days: Sequence[int], before: int) -> int:
    """Compress the chunks of the days that end before the day `before`; returns how many."""
    return compress_portion.fn(clients, find_to_compress.fn(clients, days, before))


class Compressor:
    """Loading waits for the disk, compressing for the processor: so chunks are compressed as soon as all is in them,
    beside the loads, and what is left at the end by several connections."""

    def __init__(self, clients: Clients, sources: Sequence[Source]) -> None:
        self._clients = clients
        self._days = sorted({day for source in sources for day in source.touched if day})
        self._behind: PrefectFuture[int] | None = None
        self._loads = 0
        self.done = 0

    def passed(self, day: int) -> None:
        """One more load has ended, and nothing is left to load before `day` (ms since 1970)."""
        self._loads += 1
        if self._loads < _LOOK_EVERY or (self._behind is not None and not self._behind.state.is_final()):
            return
        self._loads = 0
        self._wait()
        self._behind = compress_behind.submit(self._clients, [d for d in self._days if d < day], day)

    def finish(self, room: Room) -> None:
        """Compress all that is left, and give drains their room. Raises `SpillwayError`."""
        self._wait()
        if not self._days:
            return
        due = find_to_compress(self._clients, self._days)
        count = room.parallel * _PORTIONS
        portions = [due[start::count] for start in range(count)]
        waiting = [portion for portion in portions if portion]
        running: list[tuple[PrefectFuture[int], float]] = []
        while waiting or running:
            while waiting and len(running) < room.loads():
                running.append((compress_portion.submit(self._clients, waiting.pop()), time.monotonic()))
            future, began = running.pop(0)
            self.done += future.result()
            if waiting:
                room.give_way(time.monotonic() - began)

    def _wait(self) -> None:
        """For what goes on behind. What goes wrong there is tried again at the end, and no reason to stop loading."""
        if self._behind is not None:
            with suppress(SpillwayError):
                self.done += self._behind.result()
            self._behind = None
