"""Plan a drain: freeze the tail of a stream and subtract what the ledger has."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

import psycopg
import redis

from infra.connections.clients import Clients
from infra.connections.group_name import group_name
from infra.errors.exceptions import Terminal
from tasks.base.addresses import IdRange, id_text
from tasks.base.step import step
from tasks.base.stream_sql import register_stream
from tasks.ledger.undrained import undrained
from tasks.streams.consumer_group import reserve
from tasks.streams.continuity import Checkpoint, rewind_message, why_rewound
from tasks.streams.pages import AbsenceRecord, stream_away
from tasks.streams.tail import ABSENCE_SECONDS, Tail, absent_stream, inspect_stream


@dataclass(frozen=True)
class DrainPlan:
    """What is left to drain of a stream: the id ranges up to `upto` that the ledger does not have, in order.

    `whole`: whether `upto` is the tail, so that entries-added can be balanced afterwards.
    """

    stream: str
    tail: Tail
    upto: int
    gaps: tuple[IdRange, ...]
    lag: int  # entries up to the tail that are neither drained nor known to be lost
    fresh: bool
    group: str  # the name of the consumer group of this database
    known: bool = True

    @property
    def whole(self) -> bool:
        return self.upto == self.tail.last


# `furthest` is null where nothing was ever drained; no row where the stream is new.
CHECKPOINT = """
    SELECT done.furthest::text, (s.baseline + s.lost + coalesce(done.read, 0))::bigint,
           s.settled_id::text, s.settled_entries_added, s.settled_hash
      FROM spillway.streams AS s,
           LATERAL (SELECT max(upper(ids)) AS furthest, sum(read) AS read
                      FROM spillway.ledger WHERE stream = s.id) AS done
     WHERE s.name = %s"""


def read_checkpoint(connection: psycopg.Connection, stream: str) -> Checkpoint | None:
    """What the ledger knows of `stream`, None where it is new."""
    row = connection.execute(CHECKPOINT, [stream]).fetchone()
    if row is None:
        return None
    furthest, passed, settled_id, settled_added, settled_hash = row
    return Checkpoint(
        -1 if furthest is None else int(furthest) - 1,
        passed,
        None if settled_id is None else int(settled_id),
        settled_added,
        settled_hash,
    )


@dataclass(frozen=True)
class StreamCheck:
    """A stream as it is now, `tail` (None if there is none), and what the ledger has of it, `memory` (None if new).

    `reason`: why it cannot be the one that was drained, None if it can.
    """

    memory: Checkpoint | None
    tail: Tail | None
    reason: str | None


def check_stream(
    client: redis.Redis, connection: psycopg.Connection, stream: str, absence: AbsenceRecord | None = None
) -> StreamCheck:
    """Is the stream the one that the ledger knows? One that is not is looked at again for about a second.

    For a moment a stream may be away, or an older copy in its place (RENAME, RESTORE, SWAPDB). `absence`: where that
    is noted. Raises `psycopg.Error` and `redis.RedisError`.
    """
    for pause in (*ABSENCE_SECONDS, None):
        # In this order: another run may drain past a tail that was read after the ledger, not past one read before it.
        memory = read_checkpoint(connection, stream)
        tail, hash_now, _ = inspect_stream(client, stream, None if memory is None else memory.settled_id)
        reason = _why_not(tail, memory, hash_now)
        if memory is None or reason is None or pause is None:
            break
        if absence is not None:
            absence.add()
        time.sleep(pause)
    return StreamCheck(memory, tail, reason)


def _why_not(tail: Tail | None, memory: Checkpoint | None, hash_now: bytes | None) -> str | None:
    if tail is None:
        furthest = 0 if memory is None else max(0, memory.furthest)
        return f"there is no such stream at the moment, expected one whose last id is {id_text(furthest)} or later"
    return None if memory is None else why_rewound(tail, memory, hash_now)


def make_plan(
    client: redis.Redis,
    connection: psycopg.Connection,
    stream: str,
    until: int | None = None,
    register: bool = True,
    absence: AbsenceRecord | None = None,
    group: str | None = None,
) -> DrainPlan:
    """Freeze the tail of `stream` and find what is left to drain up to it, or up to the id `until`.

    `register`: have the ledger know a stream that is new. `absence`: where it is noted if the stream was away.
    `group`: the name of the database's consumer group, asked for if not given. Raises
    `StreamAway` if there is no such stream, `Terminal` if it is not the one any more of which the ledger tells: its ids
    are being given out a second time, and a new entry could be taken for one that was drained.
    """
    group = group or group_name(connection)
    found = check_stream(client, connection, stream, absence)
    memory, tail = found.memory, found.tail
    if tail is None:
        if memory is None or memory.furthest < 0:
            raise absent_stream(stream)
        raise stream_away(stream, "plan", str(found.reason))
    if found.reason is not None:
        raise Terminal(rewind_message(stream, found.reason))
    if memory is None and register:
        with suppress(redis.exceptions.ResponseError):  # it may not be allowed to: settling warns of that
            reserve(client, stream, group)
        register_stream(connection, stream, baseline=tail.added - tail.length)
    upto = tail.last if until is None else min(until, tail.last)
    if memory is None and not register:
        return DrainPlan(stream, tail, upto, (IdRange(0, upto + 1),), tail.length, True, group, known=False)
    left = undrained(connection, stream, upto + 1)
    if left is None:
        raise Terminal(f"stream {stream} is not in spillway.streams any more; drain it again")
    return DrainPlan(stream, tail, upto, left.gaps, max(0, tail.added - left.passed), left.fresh, group)


@step("plan")
def plan(
    clients: Clients, stream: str, until: int | None, register: bool = True, absence: AbsenceRecord | None = None
) -> DrainPlan:
    """`make_plan`, as a task."""
    with clients.translate_errors(f"plan {stream}"), clients.postgres() as connection:
        return make_plan(clients.redis, connection, stream, until, register, absence, clients.group(connection))
