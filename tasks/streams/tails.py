"""The tails of many streams, for a look at all of them."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from infra.errors.exceptions import Terminal
from tasks.streams.limited_reply import ReplyTooLarge, execute_limited
from tasks.streams.tail import STREAMS_PER_ROUND_TRIP, Tail, inspect_abridged, tail_of_reply


def read_tails(client: redis.Redis, streams: Sequence[str]) -> tuple[dict[str, Tail | None], list[str]]:
    """The tail of each, many in a round trip; None if Redis has no stream of that name. Also the names of those whose
    key the user may not read: these have no tail.

    Raises `redis.RedisError`, also if the user may not run the commands at all.
    """
    found: dict[str, Tail | None] = {}
    denied: list[str] = []
    waiting = [streams[at : at + STREAMS_PER_ROUND_TRIP] for at in range(0, len(streams), STREAMS_PER_ROUND_TRIP)]
    waiting.reverse()
    while waiting:
        names = waiting.pop()
        try:
            replies = execute_limited(client, [("XINFO", "STREAM", name) for name in names])
        except ReplyTooLarge:  # with the first and the last entry of each
            found |= {name: _tail(client, name) for name in names}
            continue
        except redis.exceptions.NoPermissionError as error:
            # One key refuses the whole transaction, and no reply names it.
            if len(names) > 1:
                half = len(names) // 2
                waiting += [names[half:], names[:half]]
            elif _is_about_a_key(error):
                denied += names
            else:
                raise
            continue
        for name, reply in zip(names, replies, strict=True):
            if isinstance(reply, redis.exceptions.NoPermissionError):
                raise reply
            found[name] = None if isinstance(reply, Exception) else tail_of_reply(reply)
    return found, denied


def _is_about_a_key(error: redis.exceptions.NoPermissionError) -> bool:
    """And not about a command: «no permissions to access one of the keys» or «a key», by the version of Redis."""
    return "key" in str(error)


def _tail(client: redis.Redis, stream: str) -> Tail | None:
    try:
        return inspect_abridged(client, stream)[0]
    except Terminal:  # not a stream
        return None
