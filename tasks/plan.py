"""Plan a drain: freeze the tail of a stream and subtract what the ledger has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
import redis

from infra.connections import Clients
from infra.errors import Terminal
from tasks.ids import IdRange, id_text, parse_id
from tasks.step import step


@dataclass(frozen=True)
class Tail:
    """A stream at one moment. All entries up to `last` are there for good: new ones get greater ids.

    `last`: the last id ever given out, 0 for none. `added`: entries ever added. `length`: entries still there.
    """

    last: int
    added: int
    length: int


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
    fresh: bool  # no event of this stream has ever been loaded

    @property
    def whole(self) -> bool:
        return self.upto == self.tail.last


def find_streams(client: redis.Redis, wanted: list[str]) -> list[str]:
    """The streams that the names and patterns (`*`, `?`, `[…]`) of `wanted` stand for, sorted, each once.

    A pattern may fit none. Raises `Terminal` for a name that no stream has.
    """
    found: set[str] = set()
    for name in wanted:
        if any(c in name for c in "*?["):
            keys: Any = client.scan_iter(match=name, count=1000, _type="stream")
            found.update(key.decode() for key in keys)
            continue
        kind: Any = client.type(name)
        if kind == b"none":
            raise Terminal(f"stream {name!r} does not exist in Redis; check the name (redis-cli --scan --type stream)")
        if kind != b"stream":
            raise Terminal(f"{name!r} in Redis is a {kind.decode()}, expected a stream; check the name")
        found.add(name)
    return sorted(found)


def read_tail(client: redis.Redis, stream: str) -> Tail:
    """The tail of `stream` now, in one reply of Redis. Raises `Terminal` where it does not exist (any more)."""
    try:
        info: Any = client.xinfo_stream(stream)
    except redis.exceptions.ResponseError as error:
        if "no such key" in str(error):
            raise Terminal(f"stream {stream!r} does not exist in Redis; check the name") from None
        raise
    return Tail(parse_id(info["last-generated-id"]), info["entries-added"], info["length"])


# Asks before it inserts: ON CONFLICT alone would use up an id at every run.
_REGISTER = """
    INSERT INTO spillway.streams (name, baseline)
    SELECT %(stream)s, %(baseline)s WHERE NOT EXISTS (SELECT FROM spillway.streams WHERE name = %(stream)s)
    ON CONFLICT (name) DO NOTHING"""
LEFT = """
    WITH stream AS (SELECT id, baseline, lost FROM spillway.streams WHERE name = %(stream)s),
         done AS (SELECT coalesce(range_agg(ids), '{}') AS ids, coalesce(sum(inserted), 0) = 0 AS fresh,
                         coalesce(sum(read), 0)::bigint AS read
                    FROM spillway.ledger WHERE stream = (SELECT id FROM stream))
    SELECT stream.baseline + stream.lost + done.read AS passed, fresh, lower(gap)::text, upper(gap)::text
      FROM stream, done
      LEFT JOIN LATERAL unnest(nummultirange(numrange(0, %(stop)s)) - done.ids) AS gap ON true
     ORDER BY gap"""
FURTHEST = """
    SELECT max(upper(ids))::text FROM spillway.ledger
     WHERE stream = (SELECT id FROM spillway.streams WHERE name = %s)"""


def make_plan(client: redis.Redis, connection: psycopg.Connection, stream: str, until: int | None = None) -> Plan:
    """Freeze the tail of `stream` and find what is left to drain up to it, or up to the id `until`.

    Raises `Terminal` where the tail is behind what the ledger says was drained: the stream was made anew, restored
    from an older copy, or lost its end in a failover, and its ids are being given out a second time.
    """
    # The ledger first: another run may drain past the tail that is read after it, but not past one read before.
    row = connection.execute(FURTHEST, [stream]).fetchone()
    furthest = int(row[0]) - 1 if row and row[0] is not None else -1
    tail = read_tail(client, stream)
    if tail.last < furthest:
        raise Terminal(
            f"stream {stream}: its last id is {id_text(tail.last)}, expected {id_text(furthest)} or later, which the"
            " ledger says was drained; the stream was deleted and made anew, restored from an older copy, or lost its"
            " end in a failover; nothing was read: see «a stream went back» in docs/operations.md"
        )
    connection.execute(_REGISTER, {"stream": stream, "baseline": tail.added - tail.length})
    upto = tail.last if until is None else min(until, tail.last)
    rows = connection.execute(LEFT, {"stream": stream, "stop": upto + 1}).fetchall()
    passed, fresh, *_ = rows[0]
    gaps = tuple(IdRange(int(start), int(stop)) for *_, start, stop in rows if start is not None)
    return Plan(stream, tail, upto, gaps, max(0, tail.added - passed), fresh)


@step("plan")
def plan(clients: Clients, stream: str, until: int | None) -> Plan:
    """`make_plan`, as a task."""
    with clients.explained(f"plan {stream}"), clients.postgres() as connection:
        return make_plan(clients.redis, connection, stream, until)
