"""Settles a drained stream: records what was lost, publishes the progress in Redis, and trims."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import psycopg
import redis

from infra.connections.clients import Clients
from infra.errors.redact import one_line
from tasks.base.addresses import IdRange, id_text
from tasks.base.step import step
from tasks.base.stream_sql import fill_in
from tasks.ledger.loss import LedgerFacts, Loss, find_loss
from tasks.ledger.merge_ranges import merge_ranges
from tasks.ledger.plan import DrainPlan
from tasks.streams.consumer_group import publish, retire_first_release
from tasks.streams.continuity import why_not_continued
from tasks.streams.pages import AbsenceRecord, StreamAway, stream_away
from tasks.streams.tail import Tail, inspect_stream
from tasks.streams.trim import trim

# Locks the stream's row: if two runs settle at the same time, the second one sees what the first has written. The last
# two columns: the end of the first range without a gap, the watermark; the end of the last range.
_STREAM = """
    SELECT s.id, s.baseline, s.lost, coalesce(s.settled_id, -1)::text, s.read,
           coalesce((SELECT upper(r) FROM unnest(s.drained) AS r ORDER BY r LIMIT 1), 0)::text,
           coalesce(upper(s.drained), 0)::text
      FROM spillway.streams s WHERE name = %s FOR NO KEY UPDATE"""
_SETTLE = """
    UPDATE spillway.streams
       SET lost = lost + %(lost)s, settled_id = %(last)s, settled_entries_added = %(added)s, settled_hash = %(hash)s,
           settled_at = now()
     WHERE id = %(id)s"""
# A loss is recorded in the row that ends at the tail.
_RECORD_LOSS = """
    UPDATE spillway.ledger
       SET lost = lost + %(lost)s,
           lost_ids = range_merge(coalesce(lost_ids, 'empty'), numrange(%(start)s, %(stop)s))
     WHERE stream = %(id)s AND upper(ids) = %(last)s + 1"""

# The first entry that waits in the quarantine without its fields, which only the stream has.
_FIRST_UNREAD = fill_in("""
    SELECT min(split_part(entry_id, '-', 1)::numeric * 18446744073709551616 + split_part(entry_id, '-', 2)::numeric)
           ::text
      FROM spillway.quarantine
     WHERE stream = {stream_id} AND outcome IS NULL AND pg_column_size(fields) < 64 AND cardinality(fields) = 0""")


@dataclass(frozen=True)
class Settlement:
    """`lost`: entries that this settlement found lost, with ids within `lost_ids`.

    `lag`: entries of the stream that are not drained yet. `trimmed`: drained entries that were removed from Redis.
    """

    lost: int
    lag: int
    lost_ids: IdRange | None = None
    trimmed: int = 0
    warnings: tuple[str, ...] = ()


def settle(
    client: redis.Redis,
    connection: psycopg.Connection,
    plan: DrainPlan,
    trim_keep: timedelta | None = None,
    absence: AbsenceRecord | None = None,
) -> Settlement:
    """Settle a stream after a drain, publish the progress, and trim the stream if `trim_keep` is given.

    `absence`: whether a stream was away during this run. If one was, even at this moment, nothing is trimmed.

    Raises `StreamAway` if the stream is not the planned one at this moment, and `Terminal` if the books do not balance
    or a loss has no explanation (see `find_loss`). Then nothing is recorded, published or trimmed.
    """
    absence = absence or AbsenceRecord()
    now, tail_hash, _ = inspect_stream(client, plan.stream, plan.tail.last)
    if reason := why_not_continued(plan.tail, now, tail_hash):
        absence.add()
        raise stream_away(plan.stream, "settle", reason)
    assert now is not None  # otherwise there is a reason
    with connection.transaction():
        stream_id, facts = _read_facts(connection, plan.stream)
        loss = find_loss(plan, now, facts)
        if loss is not None:
            _record(connection, plan, stream_id, loss, tail_hash)
            merge_ranges(connection, stream_id)
    loss = loss or Loss(0, None)
    passed = facts.baseline + facts.read + facts.lost + loss.count
    warnings = _publish(client, connection, plan, now, facts, passed)
    trimmed = 0
    if trim_keep is not None and facts.watermark and not absence.any:
        trimmed, more = trim_drained(
            client, connection, plan.stream, plan.tail, facts.watermark, trim_keep, plan.group, absence
        )
        warnings += more
    return Settlement(loss.count, max(0, now.added - passed), loss.ids, trimmed, warnings)


def trim_drained(
    client: redis.Redis, connection: psycopg.Connection, stream: str, tail: Tail, watermark: int, keep: timedelta,
    group: str, absence: AbsenceRecord,
) -> tuple[int, tuple[str, ...]]:  # fmt: skip
    """`trim`, and warnings instead of errors of Redis: a drain does not fail because it could not trim.

    `watermark`: all ids before it are drained. An entry that waits in the quarantine without its fields stays, and so
    do all after it. Raises `psycopg.Error`.
    """
    row = connection.execute(_FIRST_UNREAD, {"stream": stream}).fetchone()
    if row is not None and row[0] is not None:
        watermark = min(watermark, int(row[0]))
    try:
        return trim(client, stream, tail, watermark, keep, group), ()
    except (redis.exceptions.RedisError, StreamAway) as error:
        if isinstance(error, StreamAway):
            absence.add()
        return 0, (f"{stream}: not trimmed: {one_line(error)}",)


def _read_facts(connection: psycopg.Connection, stream: str) -> tuple[int, LedgerFacts]:
    """The id of the stream, and what the ledger has of it. Locks the stream's row."""
    row = connection.execute(_STREAM, [stream]).fetchone()
    assert row is not None  # the plan has registered the stream
    stream_id, baseline, lost, settled_id, read, watermark, drained_to = row
    return stream_id, LedgerFacts(baseline, read, lost, int(settled_id), int(watermark), int(drained_to))


def _record(
    connection: psycopg.Connection, plan: DrainPlan, stream_id: int, loss: Loss, tail_hash: bytes | None
) -> None:
    values = {"id": stream_id, "lost": loss.count, "last": plan.tail.last}
    connection.execute(_SETTLE, values | {"added": plan.tail.added, "hash": tail_hash})
    if loss.ids is not None:
        connection.execute(_RECORD_LOSS, values | {"start": loss.ids.start, "stop": loss.ids.stop})


def _publish(
    client: redis.Redis, connection: psycopg.Connection, plan: DrainPlan, now: Tail, facts: LedgerFacts, passed: int
) -> tuple[str, ...]:
    """Publish the progress as the consumer group. If Redis refuses, that is a warning, which is returned."""
    if not facts.read or facts.watermark != facts.drained_to:
        return ()
    # Never more than entries-added of this moment: Redis would show a negative lag, and newer versions refuse to load
    # a snapshot of that.
    entries_read = min(passed, now.added)
    try:
        is_new = publish(client, plan.stream, plan.group, id_text(facts.watermark - 1), entries_read)
        if now.groups + is_new > 1:  # one of them is ours
            retire_first_release(client, connection, plan.stream)
    except redis.exceptions.RedisError as error:
        return (f"{plan.stream}: progress not published as consumer group {plan.group!r}: {one_line(error)}",)
    return ()


@step("settle")
def settle_stream(clients: Clients, plan: DrainPlan, absence: AbsenceRecord) -> Settlement:
    """`settle`, as a task."""
    with clients.translate_errors(f"settle {plan.stream}"), clients.postgres() as connection:
        return settle(clients.redis, connection, plan, clients.settings.trim_keep, absence)
