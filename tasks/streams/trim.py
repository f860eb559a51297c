"""Trim a drained stream: never past what is drained, what another consumer group still needs, or the time to keep."""

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
    """What a consumer group still needs: entries after `delivered`, and from `pending` on, where that is not None."""

    delivered: int
    pending: int | None

    @property
    def needs_from(self) -> int:
        """The first id that the group may still ask for."""
        return self.delivered + 1 if self.pending is None else min(self.pending, self.delivered + 1)


def first_to_keep(watermark: int, groups: Sequence[GroupPosition], now_ms: int, keep: timedelta) -> int:
    """The id before which all may go. `watermark`: the first id that is not drained, all before it are.

    `now_ms`: Redis's own clock, by which ids are given out.
    """
    oldest_ms = max(0, now_ms - round(keep.total_seconds() * 1000))
    return min([watermark, oldest_ms << 64, *(group.needs_from for group in groups)])


def trim(client: redis.Redis, stream: str, tail: Tail, watermark: int, keep: timedelta, own_group: str) -> int:
    """Trim `stream` as far as `first_to_keep` allows; returns how many entries went.

    By whole nodes of the stream (`~`), so that a few entries more may stay, and in steps of what Redis holds for
    10,000 entries (its default limit), so that no other client waits long. The last question before each step proves
    that the stream is still the one that had the `tail`, and is asked at the same moment as what other groups need:
    only what comes between it and XTRIM, a round trip later, goes unseen. Raises `StreamAway`, `redis.RedisError`.
    """
    trimmed = 0
    names: list[bytes] = []  # of the other groups with entries that are not acknowledged
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
        (seconds, micros), groups = replies[0], [_named(group) for group in replies[1]]
        others = [group for group in groups if group[b"name"] != own_group.encode()]
        asked = dict(zip(names, replies[2:], strict=True))
        names = list({*names, *(group[b"name"] for group in others if group[b"pending"])})
        if asked.keys() != set(names):  # it only grows, so this comes to an end
            continue
        needs = [_group(group, asked.get(group[b"name"])) for group in others]
        first = first_to_keep(watermark, needs, int(seconds) * 1000 + int(micros) // 1000, keep)
        reply = client.execute_command("XTRIM", stream, "MINID", "~", id_text(first))
        if not int(reply):
            return trimmed
        trimmed += int(reply)


def _named(reply: Any) -> dict[bytes, Any]:
    """Names and values in turn, or a dict from a client of protocol 3."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def _group(group: dict[bytes, Any], pending: Any) -> GroupPosition:
    oldest = pending["min"] if pending else None
    return GroupPosition(parse_id(group[b"last-delivered-id"]), parse_id(oldest) if oldest else None)
