"""Finds the streams of a drain that have nothing new, for all of them with one query and a few round trips.

A stream is idle if a plan and a settlement would find and change nothing: its ledger ends at its tail without a gap and
balances, it is the stream that was settled (the checks of `tasks/streams/continuity.py`), and its consumer group is
where a settlement would put it. Any doubt makes it a stream with work, which a drain plans and settles as always.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
import redis

from infra.connections.clients import Clients
from infra.errors.exceptions import Terminal
from tasks.base.addresses import id_text
from tasks.base.step import step
from tasks.ledger.settle import trim_drained
from tasks.streams.consumer_group import FIRST_RELEASE
from tasks.streams.continuity import Checkpoint, why_rewound
from tasks.streams.limited_reply import Command, ReplyTooLarge, execute_limited
from tasks.streams.pages import AbsenceRecord
from tasks.streams.tail import STREAMS_PER_ROUND_TRIP, Tail, inspect_abridged, tail_of_reply
from tasks.streams.trim import as_dict, first_to_keep, position

# The streams whose ledger is one piece from 0 to the settled tail, and balances there.
_SETTLED = """
    SELECT name, "table", read, settled_id::text, settled_entries_added, settled_hash FROM spillway.streams
     WHERE name = ANY(%s) AND drained = nummultirange(numrange(0, settled_id + 1))
       AND settled_entries_added = baseline + lost + read"""


@dataclass(frozen=True)
class IdleStreams:
    """The idle ones of some streams. `trimmed`: by stream, how many drained entries were removed from Redis.

    `waiting`: of streams that were settled and have longer tails now, how many entries were added since.
    """

    trimmed: Mapping[str, int]
    warnings: tuple[str, ...] = ()
    waiting: Mapping[str, int] = field(default_factory=dict)

    def __contains__(self, stream: str) -> bool:
        return stream in self.trimmed


@dataclass(frozen=True)
class _Settled:
    """A stream that is drained to the settled tail. `read`: entries in total. `checkpoint`: as a plan reads it."""

    stream: str
    read: int
    checkpoint: Checkpoint


def idle_streams(
    client: redis.Redis,
    connection: psycopg.Connection,
    tables: Mapping[str, str],
    group: str,
    trim_keep: timedelta | None = None,
    absence: AbsenceRecord | None = None,
) -> IdleStreams:
    """Those of the streams in `tables` that have nothing new. With `trim_keep`, what they have to trim is trimmed.

    `tables`: by stream, the quoted name of the table that its rows go to. `group`: the name of this database's consumer
    group. `absence`: as for `settle`. If one of the streams is not the one that was settled, nothing is trimmed: those
    that have something to trim then count as streams with work. Raises `psycopg.Error` and `redis.RedisError`.
    """
    absence = absence or AbsenceRecord()
    settled = list(_read_settled(connection, tables))
    trimmed: dict[str, int] = {}
    to_trim: list[tuple[_Settled, Tail]] = []
    waiting: dict[str, int] = {}
    all_there = True
    for at in range(0, len(settled), STREAMS_PER_ROUND_TRIP):
        some = settled[at : at + STREAMS_PER_ROUND_TRIP]
        for one, (tail, groups, now_ms) in zip(some, _inspect(client, [one.stream for one in some]), strict=True):
            if tail is not None and tail.last > one.checkpoint.furthest and tail.added > one.checkpoint.passed:
                waiting[one.stream] = tail.added - one.checkpoint.passed
            if tail is None or why_rewound(tail, one.checkpoint, tail.last_hash):
                all_there = False
            elif _is_unchanged(one, tail, groups, group):
                if trim_keep is not None and _may_trim(one, tail, groups, group, now_ms, trim_keep):
                    to_trim.append((one, tail))
                else:
                    trimmed[one.stream] = 0
    warnings: tuple[str, ...] = ()
    for one, tail in to_trim:
        if trim_keep is None or not all_there or absence.any:
            break
        watermark = one.checkpoint.furthest + 1
        trimmed[one.stream], more = trim_drained(
            client, connection, one.stream, tail, watermark, trim_keep, group, absence
        )
        warnings += more
    return IdleStreams(trimmed, warnings, waiting)


def _read_settled(connection: psycopg.Connection, tables: Mapping[str, str]) -> Iterator[_Settled]:
    for stream, table, read, last, added, settled_hash in connection.execute(_SETTLED, [list(tables)]):
        if table is None or table == tables[stream]:
            tail = int(last)
            yield _Settled(stream, read, Checkpoint(tail, added, tail, added, settled_hash, table))


def _inspect(client: redis.Redis, streams: Sequence[str]) -> list[tuple[Tail | None, Any, int]]:
    """For each stream its tail, None if there is no such stream, the reply to XINFO GROUPS, and Redis's clock in ms.

    If Redis refuses to answer for a stream, its tail is None.
    """
    commands: list[Command] = [("TIME",)]
    for stream in streams:
        commands += [("XINFO", "STREAM", stream), ("XINFO", "GROUPS", stream)]
    try:
        time, *replies = execute_limited(client, commands)
    except (ReplyTooLarge, redis.exceptions.ResponseError):  # because of one of them, perhaps
        if len(streams) > 1:
            half = len(streams) // 2
            return [*_inspect(client, streams[:half]), *_inspect(client, streams[half:])]
        return [_inspect_alone(client, streams[0])]
    states = zip(replies[::2], replies[1::2], strict=True)
    return [
        (None if isinstance(info, Exception) else tail_of_reply(info), groups, _ms(time)) for info, groups in states
    ]


def _inspect_alone(client: redis.Redis, stream: str) -> tuple[Tail | None, Any, int]:
    """The same for a stream whose entries may be too large for a reply."""
    try:
        tail, _, (time, groups) = inspect_abridged(client, stream, None, ("TIME",), ("XINFO", "GROUPS", stream))
    except (redis.exceptions.ResponseError, Terminal):
        return None, (), 0
    return tail, groups, _ms(time)


def _ms(time: Any) -> int:
    seconds, micros = time
    return int(seconds) * 1000 + int(micros) // 1000


def _is_unchanged(one: _Settled, tail: Tail, groups: Any, group: str) -> bool:
    """Whether a plan would find nothing to read, and a settlement nothing to record or to publish."""
    last, added = one.checkpoint.furthest, one.checkpoint.passed
    if (tail.last, tail.added) != (last, added) or isinstance(groups, Exception):
        return False
    found = {state[b"name"]: state for state in map(as_dict, groups)}
    if FIRST_RELEASE.encode() in found:
        return False
    if not one.read:  # nothing is published yet
        return True
    mine = found.get(group.encode(), {})
    return (mine.get(b"last-delivered-id"), mine.get(b"entries-read")) == (id_text(last).encode(), added)


def _may_trim(one: _Settled, tail: Tail, groups: Any, group: str, now_ms: int, keep: timedelta) -> bool:
    """Whether there may be entries to trim. Only XPENDING tells what other groups have not acknowledged yet."""
    others = [position(state, None) for state in map(as_dict, groups) if state[b"name"] != group.encode()]
    first = first_to_keep(one.checkpoint.furthest + 1, others, now_ms, keep)
    return bool(one.read and tail.length) and tail.first < first


@step("find idle streams")
def find_idle(clients: Clients, tables: Mapping[str, str], absence: AbsenceRecord) -> IdleStreams:
    """`idle_streams`, as a task."""
    with clients.translate_errors("find idle streams"), clients.postgres() as connection:
        group = clients.group(connection)
        return idle_streams(clients.redis, connection, tables, group, clients.settings.trim_keep, absence)
