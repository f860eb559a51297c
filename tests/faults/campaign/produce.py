"""Produces entries and records them: the oracle knows nothing else."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

import redis

from infra.producers.broken import Entry
from infra.producers.generate import batches
from tests.support.oracle import Key, Row, flat_rows

_CHUNK = 500  # entries of one transaction
_GIVE_UP_SECONDS = 60

# Shares of the entries: repeated, broken, up to 60 days late.
DUPLICATES, BAD, LATE = 0.03, 0.01, 0.005
# The prefix of the event_type of entries that a user's constraint or trigger rejects or changes.
MARK = "marked-"


@dataclass
class Produced:
    """A stream, and all its entries that Redis has confirmed, by id and in order.

    `bad`: entries that cannot become a row unchanged. `fixed`: the fields with which some of them were redriven.

    The producer chooses the ids, and each transaction is all or nothing. After a lost reply, the stream's last id shows
    whether it was applied. So nothing is sent twice and nothing is unknown, even if Redis is killed.
    """

    stream: str
    entries: dict[str, Entry] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)
    fixed: dict[str, Entry] = field(default_factory=dict)
    _last: tuple[int, int] = (0, 0)

    def send(self, client: redis.Redis, entries: Iterable[tuple[Entry, bool]]) -> None:
        """Add entries, each with whether it is bad. Retries while Redis is away."""
        rest = iter(entries)
        while chunk := list(itertools.islice(rest, _CHUNK)):
            numbered = {self._next_id(): (entry, bad) for entry, bad in chunk}
            self._send_whole(client, {entry_id: entry for entry_id, (entry, _) in numbered.items()})
            self.entries |= {entry_id: entry for entry_id, (entry, _) in numbered.items()}
            self.bad |= {entry_id for entry_id, (_, bad) in numbered.items() if bad}

    def _next_id(self) -> str:
        """An id greater than all before it, whatever the clock does."""
        ms, seq = self._last
        now = int(time.time() * 1000)
        self._last = (now, 0) if now > ms else (ms, seq + 1)
        return f"{self._last[0]}-{self._last[1]}"

    def _send_whole(self, client: redis.Redis, numbered: dict[str, Entry]) -> None:
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        last = next(reversed(numbered))
        while True:
            try:
                with client.pipeline(transaction=True) as pipeline:
                    for entry_id, entry in numbered.items():
                        pipeline.xadd(self.stream, entry, id=entry_id)  # type: ignore[arg-type]
                    pipeline.execute()
                return
            except redis.RedisError:
                if self._is_in(client, last):
                    return
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _is_in(self, client: redis.Redis, entry_id: str) -> bool:
        try:
            info = client.xinfo_stream(self.stream)
        except redis.RedisError:
            return False
        return _number(info["last-generated-id"].decode()) >= _number(entry_id)

    def good(self) -> Iterator[Entry]:
        """The entries that become rows, as produced or as redriven."""
        yield from (entry for entry_id, entry in self.entries.items() if entry_id not in self.bad)
        yield from self.fixed.values()

    def fix(self) -> None:
        """Record that bad properties are replaced by a redrive. Entries with no other defect become rows."""
        for entry_id in self.bad - self._marked():
            entry = self.entries[entry_id] | {b"properties": b"{}"}
            if _is_event(entry):
                self.fixed[entry_id] = entry

    def elsewhere(self) -> Produced:
        """The same stream for a database in which nothing is rejected or redriven."""
        return replace(self, fixed={}, bad=self.bad - self._marked())

    def _marked(self) -> set[str]:
        """The bad entries that a user's constraint or trigger rejects, and nothing else is wrong with them."""
        return {i for i in self.bad if self.entries[i].get(b"event_type", b"").startswith(MARK.encode())}

    def renewed(self, of: set[str]) -> Produced:
        """The stream after it starts over with these of its entries."""
        entries = {entry_id: entry for entry_id, entry in self.entries.items() if entry_id in of}
        return Produced(self.stream, entries, self.bad & of, _last=self._last)


def _number(entry_id: str) -> tuple[int, int]:
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq or 0)


def _is_event(entry: Entry) -> bool:
    """Whether the table accepts these fields, whatever the properties are."""
    try:
        text = {name: entry[name].decode() for name in (b"event_id", b"event_type", b"user_id", b"time")}
        UUID(text[b"event_id"])
        datetime.fromisoformat(text[b"time"])
    except (KeyError, ValueError):
        return False
    return not any("\0" in value for value in text.values())


def expected_rows(produced: Iterable[Produced]) -> dict[Key, Row]:
    """The rows that `events` must hold for these streams."""
    return flat_rows(entry for one in produced for entry in one.good())


def endless(seed: int, size: int, bad: float = BAD) -> Iterator[list[tuple[Entry, bool]]]:
    """Endless batches of `size` generated entries, each with whether it is bad. Later batches repeat entries of earlier
    ones."""
    source = batches(10_000_000, seed=seed, duplicates=DUPLICATES, bad=bad, late=LATE, size=size)
    return (list(zip(batch.entries, batch.bad, strict=True)) for batch in source)
