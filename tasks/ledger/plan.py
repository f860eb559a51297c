"""Plans a drain: freezes the tail of a stream and subtracts what the ledger has."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

import psycopg
import redis

from infra.connections.clients import Clients
from infra.connections.group_name import group_name
from infra.errors.exceptions import Terminal
from infra.tables.read_table import default_table_name
from tasks.base.addresses import IdRange, id_text
from tasks.base.step import step
from tasks.ledger.register_stream import other_table, register_stream
from tasks.ledger.stream_balance import Finding, row_findings
from tasks.ledger.undrained import undrained
from tasks.streams.consumer_group import reserve
from tasks.streams.continuity import Checkpoint, rewind_message, why_rewound
from tasks.streams.pages import AbsenceRecord, stream_away
from tasks.streams.tail import ABSENCE_SECONDS, Tail, absent_stream, inspect_stream


@dataclass(frozen=True)
class DrainPlan:
    """What a drain has to read of a stream: the id ranges `gaps`, up to the id `upto`, that the ledger does not have.

    `tail`: the tail of the stream when it was planned. `lag`: entries up to that tail that are neither drained nor
    known to be lost. `fresh`: no event of the stream was ever inserted. `known`: the ledger has the stream, with
    its table. `group`: the name of this database's consumer group.
    """

    stream: str
    tail: Tail
    upto: int
    gaps: tuple[IdRange, ...]
    lag: int
    fresh: bool
    group: str
    known: bool = True

    @property
    def whole(self) -> bool:
        """Whether the plan reaches the tail, so that the drained stream can be settled."""
        return self.upto == self.tail.last


# The first column is null if nothing was ever drained. There is no row if the stream is new.
CHECKPOINT = """
    SELECT upper(drained)::text, baseline + lost + read, settled_id::text, settled_entries_added, settled_hash, "table"
      FROM spillway.streams WHERE name = %s"""


def read_checkpoint(connection: psycopg.Connection, stream: str) -> Checkpoint | None:
    """What the ledger knows of `stream`, None if it is new. Raises `psycopg.Error`."""
    row = connection.execute(CHECKPOINT, [stream]).fetchone()
    if row is None:
        return None
    furthest, passed, settled_id, settled_added, settled_hash, table = row
    return Checkpoint(
        -1 if furthest is None else int(furthest) - 1,
        passed,
        None if settled_id is None else int(settled_id),
        settled_added,
        settled_hash,
        table,
    )


@dataclass(frozen=True)
class StreamCheck:
    """A stream and what the ledger knows of it.

    `checkpoint`: None if it is new. `tail`: None if it does not exist. `reason`: why it cannot be the stream that was
    drained, None if it can.
    """

    checkpoint: Checkpoint | None
    tail: Tail | None
    reason: str | None


def check_stream(
    client: redis.Redis, connection: psycopg.Connection, stream: str, absence: AbsenceRecord | None = None
) -> StreamCheck:
    """Check whether the stream is the one that the ledger knows. If not, check again for about a second.

    A stream may be away for a moment, or replaced by an older copy (RENAME, RESTORE, SWAPDB). `absence` records that.
    Raises `psycopg.Error` and `redis.RedisError`.
    """
    for pause in (*ABSENCE_SECONDS, None):
        # The ledger first: it can only have drained ids up to a tail that is read later.
        checkpoint = read_checkpoint(connection, stream)
        tail, hash_now, _ = inspect_stream(client, stream, None if checkpoint is None else checkpoint.settled_id)
        reason = why_different(tail, checkpoint, hash_now)
        if checkpoint is None or reason is None or pause is None:
            break
        if absence is not None:
            absence.add()
        time.sleep(pause)
    return StreamCheck(checkpoint, tail, reason)


def why_different(tail: Tail | None, checkpoint: Checkpoint | None, hash_now: bytes | None) -> str | None:
    """Why the stream cannot be the one that the ledger knows, None if it can. `hash_now`: see `why_rewound`."""
    if tail is None:
        furthest = 0 if checkpoint is None else max(0, checkpoint.furthest)
        return f"there is no such stream at the moment, expected one whose last id is {id_text(furthest)} or later"
    return None if checkpoint is None else why_rewound(tail, checkpoint, hash_now)


def make_plan(
    client: redis.Redis,
    connection: psycopg.Connection,
    stream: str,
    until: int | None = None,
    register: bool = True,
    absence: AbsenceRecord | None = None,
    group: str | None = None,
    table: str | None = None,
) -> DrainPlan:
    """Freeze the tail of `stream` and find what is not drained up to it, or up to the id `until` if that comes first.

    `register`: add a new stream to the ledger. `absence`: records whether the stream was away. `group`: the name of
    this database's consumer group, queried if None. `table`: the table that its rows go to, as a `regclass`;
    None: that of the ledger, or `events` for a new stream. Raises `StreamAway` if a known stream does not exist, and
    `Terminal` if there never was one, if its rows went to another table, or if it went back: its ids are assigned a
    second time, so a new entry could be taken for a drained one. Raises `psycopg.Error` and `redis.RedisError`.
    """
    group = group or group_name(connection)
    check = check_stream(client, connection, stream, absence)
    checkpoint, tail = check.checkpoint, check.tail
    if tail is None:
        if checkpoint is None or checkpoint.furthest < 0:
            raise absent_stream(stream)
        raise stream_away(stream, "plan", str(check.reason))
    if check.reason is not None:
        wrong = row_findings(connection, stream)
        raise Terminal(
            unbalanced_message(stream, check.reason, wrong[0]) if wrong else rewind_message(stream, check.reason)
        )
    new = is_new(stream, checkpoint, table)
    if new and register:
        with suppress(redis.exceptions.ResponseError):  # no permission: the settlement warns about it
            reserve(client, stream, group)
        register_stream(connection, stream, table or default_table_name(), tail.added - tail.length)
    upto = tail.last if until is None else min(until, tail.last)
    if new and not register:
        return DrainPlan(stream, tail, upto, (IdRange(0, upto + 1),), tail.length, True, group, known=False)
    remaining = undrained(connection, stream, upto + 1)
    if remaining is None:
        raise Terminal(
            f"plan: stream {stream} is no longer in spillway.streams; nothing was read; run the command again"
        )
    return DrainPlan(stream, tail, upto, remaining.gaps, max(0, tail.added - remaining.passed), remaining.fresh, group)


def unbalanced_message(stream: str, reason: str, wrong: Finding) -> str:
    """The error message for a stream that seems to have gone back, by a ledger that is wrong itself."""
    return (
        f"plan: stream {stream} does not agree with the ledger: {reason}; but the ledger is wrong: {wrong.detail};"
        f" nothing was read; {wrong.repair}; then `spillway reconcile --stream {stream}` says whether the stream went"
        " back as well"
    )


def is_new(stream: str, checkpoint: Checkpoint | None, table: str | None) -> bool:
    """Whether the stream is to be registered: it is unknown, or nothing was drained and it now has another table.

    Raises `Terminal` if something was drained into another table.
    """
    if checkpoint is None:
        return True
    if table is None or (reason := other_table(stream, checkpoint.table, table)) is None:
        return False
    if checkpoint.furthest >= 0:
        raise Terminal(f"plan: {reason}")
    return True


@step("plan")
def plan(
    clients: Clients,
    stream: str,
    until: int | None,
    register: bool = True,
    absence: AbsenceRecord | None = None,
    table: str | None = None,
) -> DrainPlan:
    """`make_plan`, as a task."""
    with clients.translate_errors(f"plan {stream}"), clients.postgres() as connection:
        group = clients.group(connection)
        return make_plan(clients.redis, connection, stream, until, register, absence, group, table)
