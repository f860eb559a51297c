"""Settle a drained stream: balance what was added against what was read, and publish how far we are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import psycopg
import redis

from infra.connections.clients import Clients
from infra.errors.exceptions import Terminal
from infra.errors.redact import one_line
from tasks.base.addresses import IdRange, id_text
from tasks.base.step import step
from tasks.base.stream_sql import fill_in
from tasks.ledger.merge_ranges import merge_ranges
from tasks.ledger.plan import DrainPlan
from tasks.streams.consumer_group import publish, retire_first_release
from tasks.streams.continuity import why_not_continued
from tasks.streams.pages import AbsenceRecord, StreamAway, stream_away
from tasks.streams.tail import Tail, inspect_stream
from tasks.streams.trim import trim

# Locks the row of the stream: of two runs that settle at once, the second sees what the first has written.
_BOOKS = """
    SELECT s.id, s.baseline, s.lost, coalesce(s.settled_id, -1)::text
      FROM spillway.streams s WHERE name = %s FOR NO KEY UPDATE"""
# The second: up to where the stream is drained without a gap. The third: how far it is drained at all.
_READ = fill_in("""
    SELECT coalesce(sum(read), 0)::bigint,
           (SELECT coalesce(upper(r), 0)::text FROM unnest(range_agg(ids)) AS r ORDER BY r LIMIT 1),
           coalesce(max(upper(ids)), 0)::text
      FROM spillway.ledger WHERE stream = {stream_id}""")
_SETTLE = """
    UPDATE spillway.streams
       SET lost = lost + %(lost)s, settled_id = %(last)s, settled_entries_added = %(added)s, settled_hash = %(hash)s,
           settled_at = now()
     WHERE name = %(stream)s"""
# On the row that ends at the tail.
_LOSE = """
    UPDATE spillway.ledger
       SET lost = lost + %(lost)s,
           lost_ids = range_merge(coalesce(lost_ids, 'empty'), numrange(%(start)s, %(stop)s))
     WHERE stream = %(id)s AND upper(ids) = %(last)s + 1"""


@dataclass(frozen=True)
class Settlement:
    """`lost`: entries found lost by this settlement, all of them among `lost_ids`.

    `lag`: entries of the stream not drained yet. `trimmed`: entries that are drained and gone from Redis.
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
    """Balance the ledger of a stream after a drain, publish its progress, and trim it if `trim_keep` is given.

    `absence`: whether a stream was away in this run, and where it is noted if this one is: then nothing is trimmed.

    If it was drained to its tail: entries-added - baseline = read + lost, and the part of `lost` that is new is
    recorded, if what the stream says of itself at that moment explains it. Raises `StreamAway` if the stream is not the
    planned one at the moment, `Terminal` if more was read than was ever added, or if a loss has no explanation; nothing
    is recorded, published or trimmed then.
    """
    now, tail_hash, _ = inspect_stream(client, plan.stream, plan.tail.last)
    absence = absence or AbsenceRecord()
    if reason := why_not_continued(plan.tail, now, tail_hash):
        absence.add()
        raise stream_away(plan.stream, "settle", reason)
    assert now is not None  # or there would be a reason
    lost = trimmed = 0
    lost_ids = None
    with connection.transaction():
        books = connection.execute(_BOOKS, [plan.stream]).fetchone()
        totals = connection.execute(_READ, {"stream": plan.stream}).fetchone()
        assert books is not None  # the plan registered the stream
        assert totals is not None  # an aggregate has one row
        stream_id, baseline, lost_before, settled_id = books
        read, watermark, drained_to = totals
        # If another run has drained further, the sum holds more than this tail: that run settles.
        if plan.whole and int(drained_to) == plan.tail.last + 1 and int(settled_id) <= plan.tail.last:
            lost = plan.tail.added - baseline - read - lost_before
            if lost < 0:
                raise Terminal(
                    f"stream {plan.stream}: the ledger does not balance: {plan.tail.added - baseline} entries were"
                    f" added, but {read} read and {lost_before} lost; was the stream restored or edited (XSETID)? see"
                    " docs/operations.md"
                )
            values = {"lost": lost, "last": plan.tail.last, "added": plan.tail.added, "stream": plan.stream}
            connection.execute(_SETTLE, values | {"hash": tail_hash})
            if lost:
                lost_ids = explain_loss(plan, now, int(settled_id), lost, now.gone - baseline - lost_before)
                connection.execute(_LOSE, values | {"id": stream_id, "start": lost_ids.start, "stop": lost_ids.stop})
            merge_ranges(connection, stream_id)
    passed = baseline + read + lost_before + lost
    warnings: tuple[str, ...] = ()
    if read and watermark == drained_to:
        # Never beyond entries-added of this moment: Redis would show a negative lag, and newer ones refuse such a file.
        position = id_text(int(watermark) - 1)
        warnings = _publish(client, connection, plan.stream, plan.group, position, min(passed, now.added), now.groups)
    if trim_keep is not None and int(watermark or 0) and not absence.any:
        try:
            trimmed = trim(client, plan.stream, plan.tail, int(watermark), trim_keep, plan.group)
        except (redis.exceptions.RedisError, StreamAway) as error:  # no reason for a drain to fail
            if isinstance(error, StreamAway):
                absence.add()
            warnings += (f"{plan.stream}: not trimmed: {one_line(error)}",)
    return Settlement(lost, max(0, now.added - passed), lost_ids, trimmed, warnings)


def explain_loss(plan: DrainPlan, now: Tail, settled: int, lost: int, gone: int) -> IdRange:
    """The ids among which all `lost` entries were: what is gone was trimmed, and so lay before the first entry that is
    there, or was deleted, and so lay no later than the last deleted one.

    `settled`: up to this id nothing was unread when the stream was settled last. `gone`: entries that are gone from the
    stream since it was first seen, less those already known to be lost. Raises `Terminal` if this is not enough.
    """
    start = min([settled + 1, *(gap.start for gap in plan.gaps[:1])])
    gone_before = max(now.first, now.max_deleted + 1) if now.length else plan.tail.last + 1
    if lost <= gone and gone_before > start:
        return IdRange(start, min(gone_before, plan.tail.last + 1))
    why = (
        f"only {max(0, gone)} are gone from it, by its length"
        if lost > gone
        else f"it has {id_text(now.first)}, and none was deleted after {id_text(now.max_deleted)}"
    )
    raise Terminal(
        f"settle {plan.stream}: {lost} entries from {id_text(start)} on were not read, but {why}: they may all be"
        " there; nothing is recorded as lost, and nothing is trimmed: have the ranges drained that were never read"
        f" (spillway stream recover {plan.stream})"
    )


def _publish(
    client: redis.Redis,
    connection: psycopg.Connection,
    stream: str,
    group: str,
    position: str,
    passed: int,
    groups: int,
) -> tuple[str, ...]:
    """Show the progress in Redis. A group that cannot be set is a warning. `groups`: how many there were before."""
    try:
        is_new = publish(client, stream, group, position, passed)
        if groups + is_new > 1:  # ours is one of them
            retire_first_release(client, connection, stream)
    except redis.exceptions.RedisError as error:
        return (f"{stream}: progress not published as consumer group {group!r}: {error}",)
    return ()


@step("settle")
def settle_stream(clients: Clients, plan: DrainPlan, absence: AbsenceRecord) -> Settlement:
    """`settle`, as a task."""
    with clients.translate_errors(f"settle {plan.stream}"), clients.postgres() as connection:
        return settle(clients.redis, connection, plan, clients.settings.trim_keep, absence)
