"""Generate realistic events, at least 100,000 per second. The same seed and options give the same events."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from infra.epoch import to_millis
from infra.errors.exceptions import WrongUse
from infra.producers.broken import DEFECTS, Entry, damaged
from infra.producers.fields import DATA
from infra.producers.repeats import Repeats
from infra.producers.vocabulary import EVENT_TYPES, HEADS_PER_TYPE, USERS, property_heads, zipf_cumulated

# Events per draw of random numbers. It is fixed so that the sequence does not depend on the batch size, and large
# enough to make numpy's cost per call (a few µs) negligible.
_BLOCK = 5_000

_JITTER_MS = 2_000  # standard deviation: neighbours in a real stream are out of order by seconds
_LATE_MS = (3_600_000, 60 * 86_400_000)  # one hour to 60 days, log-uniform
_TAIL = b'%b,"session":"%08x","ms":%d,"amount":%d.%02d}'

_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GeneratedEntries:
    """n entries (field → value), and n flags each for broken entries and for repeats of an earlier one.

    No entry is both. A broken entry cannot become a row; all others can.
    """

    entries: list[Entry]
    bad: list[bool]
    duplicate: list[bool]


def default_start() -> datetime:
    """The current minute, UTC. It is short enough to type again."""
    return datetime.now(UTC).replace(second=0, microsecond=0)


def batches(
    events: int,
    *,
    seed: int = 0,
    duplicates: float = 0.0,
    bad: float = 0.0,
    late: float = 0.0,
    start: datetime | None = None,
    span_hours: float = 24.0,
    size: int = 5000,
) -> Iterator[GeneratedEntries]:
    """Generate `events` entries in batches of `size`; the last one may be smaller.

    Fields: `event_id` (UUID v4), `event_type`, `user_id`, `time` (UTC, milliseconds, `Z`), `properties` (JSON text).
    `duplicates`, `bad` and `late` are shares 0..1 of the entries. `late` is independent of the others; `duplicates` and
    `bad` exclude each other and add up to 1 at most. The first entry that is not bad is never a duplicate. Times rise
    over the `span_hours` before `start`, with a jitter of seconds, and never exceed `start`. `start` is UTC if it has
    no zone, and defaults to the current minute. Late entries are an hour to 60 days older. The sequence depends on all
    arguments except `size`, and on the version of numpy. Memory is bounded: about 25 MB plus one batch.

    Raises `WrongUse` for an argument out of range.
    """
    _check(events, seed, duplicates, bad, late, span_hours, size)
    start = start or default_start()
    start = start if start.tzinfo else start.replace(tzinfo=UTC)
    end_ms = to_millis(start)
    return _sized(_blocks(events, seed, (duplicates, bad, late), end_ms, span_hours * 3_600_000), size)


def as_document(entry: Entry) -> Entry:
    """`entry` as one JSON document in the field `data`, with `properties` as an object in it.

    The values are spliced, not serialised, so a defect of a field is also in the document.
    """
    members = [
        b'"%b":%b' % (field, value if field == b"properties" else b'"%b"' % value) for field, value in entry.items()
    ]
    return {DATA: b"{" + b",".join(members) + b"}"}


def _check(events: int, seed: int, duplicates: float, bad: float, late: float, span_hours: float, size: int) -> None:
    for name, share in (("duplicates", duplicates), ("bad", bad), ("late", late)):
        if not 0 <= share <= 1:
            raise WrongUse(f"generate: {name}: expected a share 0..1, found {share}")
    if duplicates + bad > 1:
        raise WrongUse(f"generate: duplicates and bad: expected a sum of at most 1, found {duplicates + bad}")
    for name, number, least in (("events", events, 0), ("seed", seed, 0), ("size", size, 1)):
        if number < least:
            raise WrongUse(f"generate: {name}: expected at least {least}, found {number}")
    if not (math.isfinite(span_hours) and 0 < span_hours <= 24 * 3652):
        raise WrongUse(f"generate: span: expected more than 0 hours and at most ten years, found {span_hours}")


def _sized(blocks: Iterator[GeneratedEntries], size: int) -> Iterator[GeneratedEntries]:
    """The entries of `blocks` in batches of `size`."""
    entries: list[Entry] = []
    bad: list[bool] = []
    duplicate: list[bool] = []
    for block in blocks:
        entries += block.entries
        bad += block.bad
        duplicate += block.duplicate
        full = len(entries) - len(entries) % size
        for i in range(0, full, size):
            yield GeneratedEntries(entries[i : i + size], bad[i : i + size], duplicate[i : i + size])
        del entries[:full], bad[:full], duplicate[:full]
    if entries:
        yield GeneratedEntries(entries, bad, duplicate)


def _blocks(
    events: int, seed: int, shares: tuple[float, float, float], end_ms: int, span_ms: float
) -> Iterator[GeneratedEntries]:
    duplicates, bad, late = shares
    rng = np.random.Generator(np.random.PCG64(seed))
    source = _EventGenerator(rng)
    repeats = Repeats(rng)
    started = False
    for first in range(0, events, _BLOCK):
        count = min(_BLOCK, events - first)
        share = (first + np.arange(count) + rng.random(count)) / events
        times = end_ms - span_ms * (1 - share) + rng.normal(0, _JITTER_MS, count)
        is_late = rng.random(count) < late
        lateness = np.exp(rng.uniform(math.log(_LATE_MS[0]), math.log(_LATE_MS[1]), count))
        times = np.minimum(times, end_ms) - np.where(is_late, lateness, 0)
        kind = rng.random(count)
        is_duplicate = kind < duplicates
        is_bad = ~is_duplicate & (kind < duplicates + bad)
        if not started and not is_bad.all():
            is_duplicate[np.argmin(is_bad)] = False
            started = True
        entries = source.entries(times.astype(np.int64))
        for position, defect in zip(
            np.flatnonzero(is_bad).tolist(), rng.integers(len(DEFECTS), size=int(is_bad.sum())).tolist(), strict=True
        ):
            entries[position] = damaged(entries[position], defect)
        if duplicates:
            repeats.weave(entries, ~(is_bad | is_duplicate), is_duplicate)
        yield GeneratedEntries(entries, is_bad.tolist(), is_duplicate.tolist())


class _EventGenerator:
    """Draw events: users and types by Zipf's law, properties from a pool of openings with random numbers added."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._types = zipf_cumulated(len(EVENT_TYPES), 1.2)
        self._users = zipf_cumulated(USERS, 1.05)
        self._names = [name.encode() for name in EVENT_TYPES]
        self._heads = property_heads(rng)

    def entries(self, times_ms: _Ints) -> list[Entry]:
        """One entry for each of `times_ms`, milliseconds since 1970."""
        rng, count = self._rng, times_ms.size
        ids = _uuids(rng, count)
        types: _Ints = np.searchsorted(self._types, rng.random(count))
        users: _Ints = np.searchsorted(self._users, rng.random(count)) + 1
        heads = types * HEADS_PER_TYPE + rng.integers(HEADS_PER_TYPE, size=count)
        numbers = zip(
            heads.tolist(),
            rng.integers(2**32, size=count).tolist(),
            np.minimum(rng.lognormal(5, 1.5, count), 1e6).astype(np.int64).tolist(),
            np.minimum(rng.lognormal(3, 1, count), 1e6).astype(np.int64).tolist(),
            rng.integers(100, size=count).tolist(),
            strict=True,
        )
        return [
            {
                b"event_id": event_id,
                b"event_type": self._names[event_type],
                b"user_id": b"user-%d" % user,
                b"time": time,
                b"properties": _TAIL % (self._heads[head], session, ms, whole, cents),
            }
            for event_id, event_type, user, time, (head, session, ms, whole, cents) in zip(
                ids, types.tolist(), users.tolist(), _iso(times_ms), numbers, strict=True
            )
        ]


def _uuids(rng: np.random.Generator, count: int) -> list[bytes]:
    """Random UUIDs of version 4 (RFC 9562), as text."""
    raw = np.frombuffer(rng.bytes(16 * count), dtype=np.uint8).reshape(count, 16).copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    digits = np.frombuffer(raw.tobytes().hex().encode(), dtype=np.uint8).reshape(count, 32)
    text = np.full((count, 36), ord("-"), dtype=np.uint8)
    for at, digit, length in ((0, 0, 8), (9, 8, 4), (14, 12, 4), (19, 16, 4), (24, 20, 12)):
        text[:, at : at + length] = digits[:, digit : digit + length]
    return text.view("S36").ravel().tolist()


def _iso(times_ms: _Ints) -> list[bytes]:
    """Times as text such as `2025-01-31T23:59:59.999Z`."""
    text = np.datetime_as_string(times_ms.astype("datetime64[ms]"), timezone="UTC").astype("S24")
    return list(text.tolist())
