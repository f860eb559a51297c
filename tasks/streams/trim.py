"""Trims a drained stream: never past what is drained, what another consumer group needs, or SPILLWAY_TRIM_KEEP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import redis

from tasks.base.addresses import id_text, parse_id
from tasks.streams.continuity import why_not_continued
from tasks.streams.pages import stream_away
from tasks.streams.tail import Tail, inspect_stream


@dataclass(frozen=True)
class GroupPosition:
    """What a consumer group has read: entries up to `delivered`. `pending`: its first unacknowledged entry, or None."""

    delivered: int
    pending: int | None

    @property
    def needs_from(self) -> int:
        """The first id that the group may still request."""
        return self.delivered + 1 if self.pending is None else min(self.pending, self.delivered + 1)


def first_to_keep(watermark: int, groups: Sequence[GroupPosition], now_ms: int, keep: timedelta) -> int:
    """The first id that must stay. `watermark`: all ids before it are drained.

    `now_ms`: the clock of Redis, which also assigns the ids. `keep`: how long entries stay after they were added.
    """
    oldest_ms = max(0, now_ms - round(keep.total_seconds() * 1000))
    return min([watermark, oldest_ms << 64, *(group.needs_from for group in groups)])


def trim(client: redis.Redis, stream: str, tail: Tail, watermark: int, keep: timedelta, own_group: str) -> int:
    """Trim `stream` as far as `first_to_keep` allows. Returns how many entries were removed.

    Removes whole nodes of the stream (`~`), so a few more entries may stay, and at most 10,000 entries' worth of nodes
    per command (the default limit of Redis), so that other clients do not wait long. Before each command, one
    transaction proves that the stream still continues the one that had the `tail`, and reads what other groups need.
    Only a change in the one round trip before XTRIM is not detected. Raises `StreamAway`, `redis.RedisError`.
    """
    trimmed = 0
    names: list[bytes] = []  # the other groups that have unacknowledged entries
    while True:
        pending = [("XPENDING", stream, name) for name in names]
        now, hash_now, replies = inspect_stream(
            client, stream, tail.last, ("TIME",), ("XINFO", "GROUPS", stream), *pending
        )
        if reason := why_not_continued(tail, now, hash_now):
            raise stream_away(stream, "trim", reason)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        (seconds, micros), groups = replies[0], [as_dict(group) for group in replies[1]]
        others = [group for group in groups if group[b"name"] != own_group.encode()]
        asked = dict(zip(names, replies[2:], strict=True))
        names = list({*names, *(group[b"name"] for group in others if group[b"pending"])})
        if asked.keys() != set(names):  # `names` only grows, so this ends
            continue
        needs = [position(group, asked.get(group[b"name"])) for group in others]
        first = first_to_keep(watermark, needs, int(seconds) * 1000 + int(micros) // 1000, keep)
        reply = client.execute_command("XTRIM", stream, "MINID", "~", id_text(first))
        if not int(reply):
            return trimmed
        trimmed += int(reply)


def as_dict(reply: Any) -> dict[bytes, Any]:
    """A reply with names and values in turn as a dict, which it already is if the client speaks protocol 3."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def position(group: dict[bytes, Any], pending: Any) -> GroupPosition:
    """The position of a group by its part of a reply to XINFO GROUPS, and a summary of XPENDING, None if not asked."""
    oldest = pending[1] if pending else None  # of: how many, the first, the last, by consumer
    return GroupPosition(parse_id(group[b"last-delivered-id"]), parse_id(oldest) if oldest else None)
