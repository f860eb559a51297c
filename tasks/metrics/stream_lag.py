"""How far behind each stream is: entries that are not drained, and the age of the oldest of them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from tasks.base.addresses import id_text, parse_id
from tasks.streams.limited_reply import Command, execute
from tasks.streams.tail import STREAMS_PER_ROUND_TRIP
from tasks.streams.tails import read_tails

IdGaps = Sequence[tuple[int, int | None]]  # [first, end) of ids; None for no end


@dataclass(frozen=True)
class ReadPosition:
    """How far the ledger is with a stream: see `LedgerFigures`. As it is, of a stream that was never drained."""

    passed: int | None = None
    undrained: IdGaps = ((0, None),)


@dataclass(frozen=True)
class StreamLag:
    """`entries`: neither drained nor known to be lost. `seconds`: the age of the oldest entry that is not drained; 0 if
    there is none."""

    entries: int
    seconds: float


# The id of the first entry in one of several ranges. A script, because XRANGE would send the whole entry.
_OLDEST = """
for i = 1, #ARGV, 2 do
  local found = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i + 1], 'COUNT', 1)[1]
  if found then return found[1] end
end
return false
"""


def read_lags(client: redis.Redis, positions: Mapping[str, ReadPosition]) -> tuple[dict[str, StreamLag], list[str]]:
    """The lag of each stream that Redis has, in a few round trips, and the streams that the user may not read.

    Raises `redis.RedisError`.
    """
    behind: dict[str, int] = {}
    tails, denied = read_tails(client, sorted(positions))
    for name, tail in tails.items():
        if tail is not None:
            passed = positions[name].passed
            behind[name] = tail.length if passed is None else max(0, tail.added - passed)
    late = [name for name, entries in behind.items() if entries]
    ages: dict[str, float] = {}
    for at in range(0, len(late), STREAMS_PER_ROUND_TRIP):
        ages |= _ages(client, {name: positions[name].undrained for name in late[at : at + STREAMS_PER_ROUND_TRIP]})
    return {name: StreamLag(entries, ages.get(name, 0.0)) for name, entries in behind.items()}, denied


def denied_streams(names: Sequence[str], command: str, patterns: Sequence[str]) -> str:
    """That the user of Redis may not read the streams `names`, and what to type. `patterns`: of the other streams."""
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    wanted = " ".join(f"--stream {shlex.quote(one)}" for one in [*patterns, *names])
    return (
        f"stream {names[0]!r}{more}: its lag is not known, since the user of SPILLWAY_REDIS_URL may not read this key;"
        f" all other streams were read; spillway grants USER --redis --for {command} {wanted}"
    )


def _ages(client: redis.Redis, undrained: Mapping[str, IdGaps]) -> dict[str, float]:
    """The age in seconds of the oldest undrained entry of each stream, by the clock of Redis."""
    commands: list[Command] = [("TIME",), *(_oldest(name, gaps) for name, gaps in undrained.items())]
    time, *found = execute(client, commands)
    now_ms = int(time[0]) * 1000 + int(time[1]) // 1000
    return {
        name: max(0.0, (now_ms - _milliseconds(reply)) / 1000)
        for name, reply in zip(undrained, found, strict=True)
        if isinstance(reply, bytes)
    }


def _oldest(name: str, gaps: IdGaps) -> Command:
    ids = [text for start, end in gaps for text in (id_text(start), "+" if end is None else id_text(end - 1))]
    return ("EVAL_RO", _OLDEST, 1, name, *ids)


def _milliseconds(entry_id: Any) -> int:
    return parse_id(entry_id) >> 64
