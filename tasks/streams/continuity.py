"""Is the stream still the one that was drained? Told before anything is read."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.base.addresses import id_text
from tasks.streams.tail import Tail


@dataclass(frozen=True)
class Checkpoint:
    """What the ledger knows of a stream.

    `furthest`: the last id that was drained, -1 for none. `passed`: entries-added up to which all is accounted for,
    at least. The rest is of the last settled tail, None before the first: its id, its entries-added, and the hash of
    its entry (None where that was gone).
    """

    furthest: int
    passed: int
    settled_id: int | None = None
    settled_added: int | None = None
    settled_hash: bytes | None = None


def why_rewound(tail: Tail, memory: Checkpoint, hash_now: bytes | None) -> str | None:
    """Why the stream with this `tail` cannot be the one of `memory` gone on, or None where it can.

    `hash_now`: of the entry that now has the id `settled_id`, None for no entry. A stream only grows at its end:
    neither its last id nor entries-added ever go down, and the entry of an id stays the same.
    """
    if tail.last < memory.furthest:
        expected = f"expected {id_text(memory.furthest)} or later, which the ledger says was drained"
        return f"its last id is {id_text(tail.last)}, {expected}"
    if tail.added < memory.passed:
        expected = f"expected {memory.passed} or more, which the ledger has accounted for"
        return f"{tail.added} entries were ever added to it, {expected}"
    if memory.settled_id is None or memory.settled_added is None:
        return None
    settled = id_text(memory.settled_id)
    if memory.settled_hash is not None and hash_now not in (None, memory.settled_hash):
        return f"its entry {settled} is another one than was drained"
    since = tail.added - memory.settled_added
    nothing_older = not tail.length or tail.first > memory.settled_id
    if nothing_older and tail.length > since:
        return f"it holds {tail.length} entries later than {settled}, expected {since} at most, by entries-added"
    vanished = memory.settled_hash is not None and hash_now is None
    if vanished and not nothing_older and tail.max_deleted < memory.settled_id:
        return f"its entry {settled}, which was drained, is gone, though older ones are there and none was deleted"
    return None


def why_not_continued(before: Tail, now: Tail | None, hash_now: bytes | None) -> str | None:
    """Why the stream with the tail `now` is not the one that had the tail `before`, a moment ago in the same run.

    `now` is None if there is no such stream. `hash_now`: of the entry that has the id `before.last` now. Stricter than
    `why_rewound`: more is known of a stream that was just looked at.
    """
    if now is None:
        return f"there is no such stream at the moment, expected one whose last id is {id_text(before.last)} or later"
    planned = Checkpoint(before.last, before.added, before.last, before.added, before.last_hash)
    if reason := why_rewound(now, planned, hash_now):
        return f"it is not the stream that was planned: {reason}"
    # These never go down, either.
    for name, then, found in (
        ("first id", before.first, now.first if now.length else before.first),
        ("max-deleted-entry-id", before.max_deleted, now.max_deleted),
    ):
        if found < then:
            return f"it is not the stream that was planned: its {name} is {id_text(found)}, expected {id_text(then)}"
    if now.gone < before.gone:
        return f"it is not the stream that was planned: {now.gone} of its entries are gone, expected {before.gone}"
    return None


def rewind_message(stream: str, reason: str) -> str:
    """The explanation of a stream that went back, and what a person can do."""
    return (
        f"stream {stream}: {reason}; the stream was deleted and made anew, restored from an older copy, or lost its end"
        " in a failover; nothing was read: bring Redis back to the newer state, or let what is there be drained as a"
        f" new stream (spillway stream accept-rewind {stream}): see «a stream went back» in docs/operations.md"
    )
