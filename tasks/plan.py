"""Plan a drain: freeze the tail of a stream and subtract what the ledger has."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import psycopg
import redis

from infra.connections import Clients
from infra.errors import Terminal
from tasks.continuity import Memory, choices, why_not_the_same
from tasks.group import group_name, reserve
from tasks.ids import IdRange, id_text
from tasks.proof import stream_away
from tasks.step import step
from tasks.stream import Tail, look


@dataclass(frozen=True)
class Plan:
    """What is left to drain of a stream: the id ranges up to `upto` that the ledger does not have, in order.

    `whole`: whether `upto` is the tail, so that entries-added can be balanced afterwards.
    """

    stream: str
    tail: Tail
    upto: int
    gaps: tuple[IdRange, ...]
    lag: int  # entries up to the tail that are neither drained nor known to be lost
    fresh: bool
    known: bool = True

    @property
    def whole(self) -> bool:
        return self.upto == self.tail.last


_REGISTER = """
    INSERT INTO spillway.streams (name, baseline) VALUES (%(stream)s, %(baseline)s) ON CONFLICT (name) DO NOTHING"""
LEFT = """
    WITH stream AS (SELECT id, baseline, lost FROM spillway.streams WHERE name = %(stream)s),
         done AS (SELECT coalesce(range_agg(ids), '{}') AS ids, coalesce(sum(inserted), 0) = 0 AS fresh,
                         coalesce(sum(read), 0)::bigint AS read
                    FROM spillway.ledger WHERE stream = (SELECT id FROM stream))
    SELECT stream.baseline + stream.lost + done.read AS passed, fresh, lower(gap)::text, upper(gap)::text
      FROM stream, done
      LEFT JOIN LATERAL unnest(nummultirange(numrange(0, %(stop)s)) - done.ids) AS gap ON true
     ORDER BY gap"""
# `furthest` is null where nothing was ever drained; no row where the stream is new.
MEMORY = """
    SELECT done.furthest::text, (s.baseline + s.lost + coalesce(done.read, 0))::bigint,
           s.settled_id::text, s.settled_entries_added, s.settled_hash
      FROM spillway.streams AS s,
           LATERAL (SELECT max(upper(ids)) AS furthest, sum(read) AS read
                      FROM spillway.ledger WHERE stream = s.id) AS done
     WHERE s.name = %s"""


def remember(connection: psycopg.Connection, stream: str) -> Memory | None:
    """What the ledger knows of `stream`, None where it is new."""
    row = connection.execute(MEMORY, [stream]).fetchone()
    if row is None:
        return None
    furthest, passed, settled_id, settled_added, settled_hash = row
    return Memory(
        -1 if furthest is None else int(furthest) - 1,
        passed,
        None if settled_id is None else int(settled_id),
        settled_added,
        settled_hash,
    )


def look_at_drained(client: redis.Redis, connection: psycopg.Connection, stream: str) -> tuple[Tail | None, str | None]:
    """The tail of a stream that the ledger knows, None if there is no such stream; and why it cannot be that stream."""
    memory = remember(connection, stream)
    tail, hash_now, _ = look(client, stream, None if memory is None else memory.settled_id)
    if tail is None or memory is None:
        return tail, "there is no such stream in Redis" if tail is None else None
    return tail, why_not_the_same(tail, memory, hash_now)


def make_plan(
    client: redis.Redis, connection: psycopg.Connection, stream: str, until: int | None = None, register: bool = True
) -> Plan:
    """Freeze the tail of `stream` and find what is left to drain up to it, or up to the id `until`.

    `register`: have the ledger know a stream that is new. Raises `Terminal` where the stream is not the one any more of
    which the ledger tells: its ids are being given out a second time, and a new entry could be taken for one that was
    drained.
    """
    # In this order. Another run may drain past the tail that is read after the ledger, but not past one read before.
    memory = remember(connection, stream)
    tail, hash_now, _ = look(client, stream, None if memory is None else memory.settled_id)
    if tail is None:
        if memory is None or memory.furthest < 0:
            raise Terminal(f"stream {stream!r} does not exist in Redis; check the name")
        expected = f"expected one whose last id is {id_text(memory.furthest)} or later"
        raise stream_away(stream, "plan", f"there is no such stream at the moment, {expected}")
    if memory is not None:
        if reason := why_not_the_same(tail, memory, hash_now):
            raise Terminal(choices(stream, reason))
    elif register:
        with suppress(redis.exceptions.ResponseError):  # it may not be allowed to: settling warns of that
            reserve(client, stream, group_name(connection))
        connection.execute(_REGISTER, {"stream": stream, "baseline": tail.added - tail.length})
    upto = tail.last if until is None else min(until, tail.last)
    if memory is None and not register:
        return Plan(stream, tail, upto, (IdRange(0, upto + 1),), tail.length, fresh=True, known=False)
    rows = connection.execute(LEFT, {"stream": stream, "stop": upto + 1}).fetchall()
    if not rows:
        raise Terminal(f"stream {stream} is not in spillway.streams any more; drain it again")
    passed, fresh, *_ = rows[0]
    gaps = tuple(IdRange(int(start), int(stop)) for *_, start, stop in rows if start is not None)
    return Plan(stream, tail, upto, gaps, max(0, tail.added - passed), fresh)


@step("plan")
def plan(clients: Clients, stream: str, until: int | None, register: bool = True) -> Plan:
    """`make_plan`, as a task."""
    with clients.explained(f"plan {stream}"), clients.postgres() as connection:
        return make_plan(clients.redis, connection, stream, until, register)
