"""The tails of many streams, for a look at all of them."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from infra.errors.exceptions import Terminal
from tasks.streams.limited_reply import ReplyTooLarge, execute_limited
from tasks.streams.tail import STREAMS_PER_ROUND_TRIP, Tail, inspect_abridged, tail_of_reply


def read_tails(client: redis.Redis, streams: Sequence[str]) -> dict[str, Tail | None]:
    """The tail of each, many in a round trip; None if Redis has no stream of that name.

    Raises `redis.RedisError`.
    """
    found: dict[str, Tail | None] = {}
    for at in range(0, len(streams), STREAMS_PER_ROUND_TRIP):
        names = streams[at : at + STREAMS_PER_ROUND_TRIP]
        try:
            replies = execute_limited(client, [("XINFO", "STREAM", name) for name in names])
        except ReplyTooLarge:  # with the first and the last entry of each
            found |= {name: _tail(client, name) for name in names}
            continue
        for name, reply in zip(names, replies, strict=True):
            if isinstance(reply, redis.exceptions.NoPermissionError):
                raise reply
            found[name] = None if isinstance(reply, Exception) else tail_of_reply(reply)
    return found


def _tail(client: redis.Redis, stream: str) -> Tail | None:
    try:
        return inspect_abridged(client, stream)[0]
    except Terminal:  # not a stream
        return None
