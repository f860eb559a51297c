"""Pure functions that decide, before anything is read, whether a stream is still the one that was drained.

They return the reason why it cannot be, or None if it can.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.base.addresses import id_text
from tasks.streams.tail import ABRIDGED_HASH, Tail


@dataclass(frozen=True)
class Checkpoint:
    """What the ledger knows of a stream.

    `furthest`: the last id that was drained, -1 if none was. `passed`: at least the entries up to this value of
    entries-added are accounted for. The other fields describe the last settled tail, and are None before the first
    settlement: its id, its entries-added, and the hash of its entry (also None if that entry no longer existed).
    """

    furthest: int
    passed: int
    settled_id: int | None = None
    settled_added: int | None = None
    settled_hash: bytes | None = None
    table: str | None = None


def why_rewound(tail: Tail, checkpoint: Checkpoint, hash_now: bytes | None) -> str | None:
    """Why a stream with this `tail` cannot be the continuation of the one that the ledger knows.

    `hash_now`: the hash of the entry that has the id `settled_id` now, None if there is none. A stream only grows at
    its end: its last id and its entries-added never decrease, and the entry of an id never changes.
    """
    if tail.last < checkpoint.furthest:
        expected = f"expected {id_text(checkpoint.furthest)} or later, which the ledger says was drained"
        return f"its last id is {id_text(tail.last)}, {expected}"
    if tail.added < checkpoint.passed:
        expected = f"expected {checkpoint.passed} or more, which the ledger has accounted for"
        return f"{tail.added} entries were ever added to it, {expected}"
    if checkpoint.settled_id is None or checkpoint.settled_added is None:
        return None
    settled = id_text(checkpoint.settled_id)
    if _differ(checkpoint.settled_hash, hash_now):
        return f"its entry {settled} differs from the one that was drained"
    added_since = tail.added - checkpoint.settled_added
    none_older = not tail.length or tail.first > checkpoint.settled_id
    if none_older and tail.length > added_since:
        return f"it holds {tail.length} entries later than {settled}, expected at most {added_since}, by entries-added"
    vanished = checkpoint.settled_hash is not None and hash_now is None
    if vanished and not none_older and tail.max_deleted < checkpoint.settled_id:
        return f"its entry {settled} was drained but no longer exists, although older ones do and it was not deleted"
    return None


def _differ(settled: bytes | None, now: bytes | None) -> bool:
    """Whether two hashes are of different entries.

    The hash of an abridged entry and that of the whole entry, which an earlier release saved, cannot be compared.
    """
    if settled is None or now is None or (len(settled) == ABRIDGED_HASH) != (len(now) == ABRIDGED_HASH):
        return False
    return settled != now


def why_not_continued(before: Tail, now: Tail | None, hash_now: bytes | None) -> str | None:
    """Why a stream with the tail `now` cannot be the continuation of one that had the tail `before` in the same run.

    `now` is None if the stream does not exist. `hash_now`: the hash of the entry that has the id `before.last` now.
    Stricter than `why_rewound`, since a run knows more about a stream that it has just inspected.
    """
    if now is None:
        return f"there is no such stream at the moment, expected one whose last id is {id_text(before.last)} or later"
    planned = Checkpoint(before.last, before.added, before.last, before.added, before.last_hash)
    if reason := why_rewound(now, planned, hash_now):
        return f"it is not the stream that was planned: {reason}"
    # These never decrease either.
    for name, then, found in (
        ("first id", before.first, now.first if now.length else before.first),
        ("max-deleted-entry-id", before.max_deleted, now.max_deleted),
    ):
        if found < then:
            return f"it is not the stream that was planned: its {name} is {id_text(found)}, expected {id_text(then)}"
    if now.removed < before.removed:
        counts = f"{now.removed} of its entries were trimmed or deleted, expected at least {before.removed}"
        return f"it is not the stream that was planned: {counts}"
    return None


def rewind_message(stream: str, reason: str) -> str:
    """The error message for a stream that went back, with the user's choices."""
    return (
        f"plan: stream {stream} went back: {reason}; it was deleted and created again, restored from an older copy, or"
        " lost its newest entries in a failover; nothing was read; bring Redis back to the newer state, or drain its"
        f" present content as a new stream: spillway stream accept-rewind {stream} (see «A stream went back» in"
        " docs/operations.md)"
    )
