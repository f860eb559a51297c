"""Trim a drained stream: never past what is drained, what another consumer group still needs, or the time to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import redis

from tasks.ids import id_text, parse_id


@dataclass(frozen=True)
class Group:
    """What a consumer group still needs: entries after `delivered`, and from `pending` on, where that is not None."""

    delivered: int
    pending: int | None

    @property
    def needs_from(self) -> int:
        """The first id that the group may still ask for."""
        return self.delivered + 1 if self.pending is None else min(self.pending, self.delivered + 1)


def first_to_keep(watermark: int, groups: Sequence[Group], now_ms: int, keep: timedelta) -> int:
    """The id before which all may go. `watermark`: the first id that is not drained, all before it are.

    `now_ms`: Redis's own clock, by which ids are given out.
    """
    oldest_ms = max(0, now_ms - round(keep.total_seconds() * 1000))
    return min([watermark, oldest_ms << 64, *(group.needs_from for group in groups)])


def trim(client: redis.Redis, stream: str, watermark: int, keep: timedelta, own_group: str) -> int:
    """Trim `stream` as far as `first_to_keep` allows; returns how many entries went.

    By whole nodes of the stream (`~`), so that a few entries more may stay, and in steps of what Redis holds for
    10,000 entries (its default limit), so that no other client waits long. Raises `redis.RedisError`.
    """
    seconds, micros = _ask(client, "TIME")
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    first = first_to_keep(watermark, _groups(client, stream, own_group), now_ms, keep)
    trimmed = 0
    while gone := int(_ask(client, "XTRIM", stream, "MINID", "~", id_text(first))):
        trimmed += gone
    return trimmed


def _groups(client: redis.Redis, stream: str, own_group: str) -> list[Group]:
    groups = []
    found: Any = client.xinfo_groups(stream)
    for group in found:
        name = group["name"]
        if name == own_group.encode():
            continue
        pending: Any = client.xpending(stream, name) if group["pending"] else {"min": None}
        groups.append(Group(parse_id(group["last-delivered-id"]), parse_id(pending["min"]) if pending["min"] else None))
    return groups


def _ask(client: redis.Redis, *command: str) -> Any:
    return client.execute_command(*command)
