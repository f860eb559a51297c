"""Loads many small streams at once: one query, one request to Redis, one COPY and one transaction for a whole group.

Only what is plain goes this way: a stream that was settled and has only grown since, whose new entries are all there
and all become new rows. Nothing is written about any other stream: it is left to the usual way, which says what is
wrong. The request to Redis returns the entries together with the state of their stream, which proves that they are
complete, so that the stream is settled in the same transaction.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
import redis

from infra.connections.clients import Clients
from infra.epoch import timestamptz_sql
from infra.errors.classify import error_scope
from infra.errors.exceptions import Terminal
from infra.errors.redact import one_line
from infra.errors.sqlstates import ErrorScope
from tasks.base.addresses import IdRange, id_text, parse_id
from tasks.base.step import step
from tasks.columns.batch import Batch
from tasks.columns.decode import TimeWindow
from tasks.columns.entries import page_to_columns
from tasks.columns.row_layout import RowLayout
from tasks.ledger.claims import STREAM_CLAIM
from tasks.ledger.drain_report import DrainResult
from tasks.ledger.merge_ranges import merge_ranges
from tasks.ledger.settle import trim_drained
from tasks.streams.consumer_group import publish, retire_first_release
from tasks.streams.continuity import Checkpoint, why_rewound
from tasks.streams.limited_reply import Command, ReplyTooLarge, execute, execute_limited
from tasks.streams.pages import AbsenceRecord
from tasks.streams.tail import Tail, inspected
from tasks.table.direct_compression import compresses_directly
from tasks.table.merge import CHECK_CONSTRAINTS_NOW
from tasks.table.new_chunks import NewChunkLimit
from tasks.table.stage import copy_all

MOST_ENTRIES = 1_000  # of a small stream

# Streams that no other run has claimed, whose ledger is one piece up to the settled tail. `merge`: once an hour, see
# `merge_ranges`. The claims end with the transaction.
# Materialized: a lock is taken for these streams only, whatever order of the conditions the server would choose.
_PLAN = """
    WITH settled AS MATERIALIZED (
    SELECT s.name, s.id, s.settled_id, s.settled_entries_added, s.settled_hash, s.settled_at FROM spillway.streams AS s
     WHERE s.name = ANY(%(names)s) AND s."table" = %(table)s AND s.inserted > 0
       AND s.drained = nummultirange(numrange(0, s.settled_id + 1))
       AND s.settled_entries_added = s.baseline + s.lost + s.read)
    SELECT name, id, settled_id::text, settled_entries_added, settled_hash,
           date_trunc('hour', settled_at) < date_trunc('hour', now()) AS merge
      FROM settled WHERE pg_try_advisory_xact_lock(hashtextextended(%(claim)s || name, 0))"""
# Both as in `load.py`.
_INSERT_LEDGER = """
    INSERT INTO spillway.ledger (stream, ids, loaded_by)
    SELECT id, numrange(first::numeric, stop::numeric), %(run)s
      FROM unnest(%(ids)s::bigint[], %(starts)s::text[], %(stops)s::text[]) AS g (id, first, stop) ORDER BY id
        ON CONFLICT ON CONSTRAINT ledger_no_overlap DO NOTHING"""
_FILL_LEDGER = f"""
    WITH loaded AS (
    SELECT id, numrange(first::numeric, stop::numeric) AS ids, read, bytes, min_time, max_time, added, hash
      FROM unnest(%(ids)s::bigint[], %(starts)s::text[], %(stops)s::text[], %(reads)s::bigint[], %(bytes)s::bigint[],
                  %(min_times)s::bigint[], %(max_times)s::bigint[], %(added)s::bigint[], %(hashes)s::bytea[])
           AS g (id, first, stop, read, bytes, min_time, max_time, added, hash)),
    range AS (
    UPDATE spillway.ledger AS l
       SET read = g.read, rows = g.read, inserted = g.read, bytes = g.bytes,
           min_time = {timestamptz_sql("g.min_time")}, max_time = {timestamptz_sql("g.max_time")},
           seconds = extract(epoch FROM clock_timestamp() - l.loaded_at) / cardinality(%(ids)s::bigint[])
      FROM loaded AS g WHERE l.stream = g.id AND l.ids = g.ids
 RETURNING l.stream, l.ids, l.read, l.loaded_at)
    UPDATE spillway.streams AS s
       SET drained = s.drained + nummultirange(range.ids), read = s.read + range.read,
           inserted = s.inserted + range.read, loaded_at = greatest(s.loaded_at, range.loaded_at),
           settled_id = upper(range.ids) - 1, settled_entries_added = g.added, settled_hash = g.hash, settled_at = now()
      FROM range JOIN loaded AS g ON g.id = range.stream WHERE s.id = range.stream"""  # noqa: S608
# What an earlier attempt has committed, if the answer to its COMMIT was lost.
_COMMITTED = """
    SELECT s.name, l.read, l.bytes FROM spillway.streams AS s
      JOIN spillway.ledger AS l ON l.stream = s.id AND upper(l.ids) = upper(s.drained)
     WHERE s.name = ANY(%s) AND l.loaded_by = %s"""


@dataclass
class SmallStreams:
    """Some small streams whose rows go to one table. `run`: marks their ranges in the ledger. `began`: an attempt."""

    names: Sequence[str]
    layout: RowLayout
    run: str
    began: bool = False


@dataclass(frozen=True)
class SmallLoads:
    """The results of the streams that were drained. The others are left to the usual way."""

    results: dict[str, DrainResult] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Read:
    """A stream with its new entries, up to `tail`."""

    stream_id: int
    tail: Tail
    batch: Batch
    merge: bool


class _Unusual(Exception):
    """The group goes the usual way."""


def load_group(
    clients: Clients,
    connection: psycopg.Connection,
    group: SmallStreams,
    window: TimeWindow,
    new_chunks: NewChunkLimit,
    absence: AbsenceRecord,
) -> list[_Read]:
    """Commit all plain streams of a group. Returns what was loaded, nothing if the transaction met anything unusual.

    `absence`: records whether a stream was away, or was another one than the one that was settled.
    Raises `psycopg.Error` and `redis.RedisError`.
    """
    table = group.layout.table.regclass
    try:
        with connection.transaction():
            names = {"names": list(group.names), "table": table, "claim": STREAM_CLAIM.format(stream="")}
            known = connection.execute(_PLAN, names).fetchall()
            found = [
                one
                for one in _read(clients, known, group.layout, window, absence)
                if new_chunks.admit(connection, one.batch) is one.batch
            ]
            if found:
                _load(connection, found, group.run)
    except _Unusual:
        return []
    except psycopg.Error as error:
        if error_scope(error) is ErrorScope.SERVER:
            raise
        return []
    return found


def _read(
    clients: Clients,
    known: Sequence[tuple[Any, ...]],
    layout: RowLayout,
    window: TimeWindow,
    absence: AbsenceRecord,
) -> Iterator[_Read]:
    """The streams whose new entries are all there, and all rows."""
    commands: list[Command] = []
    for name, _, settled, *_ in known:
        entry, after = id_text(int(settled)), id_text(int(settled) + 1)
        commands += [
            ("TYPE", name), ("XINFO", "STREAM", name), ("XRANGE", name, entry, entry, "COUNT", 1),
            ("XRANGE", name, after, "+", "COUNT", MOST_ENTRIES + 1),
        ]  # fmt: skip
    try:
        replies = execute_limited(clients.redis, commands) if commands else []
    except ReplyTooLarge:
        return
    for at, (name, stream_id, settled, added, settled_hash, merge) in enumerate(known):
        *state, entries = replies[4 * at : 4 * at + 4]
        try:
            tail, hash_now, _ = inspected(name, state, 0)
        except (redis.exceptions.ResponseError, Terminal):
            continue
        start = int(settled)
        checkpoint = Checkpoint(start, added, start, added, settled_hash)
        if tail is None or why_rewound(tail, checkpoint, hash_now):
            absence.add()
            continue
        if isinstance(entries, Exception):
            continue
        # All that were ever added are there, the last one too: nothing was lost, and nothing is to be proven later.
        complete = 0 < len(entries) <= MOST_ENTRIES and len(entries) == tail.added - added
        if not complete or parse_id(entries[-1][0]) != tail.last:
            continue
        batch = Batch(name, IdRange(start + 1, tail.last + 1), page_to_columns(entries), layout, window)
        if batch.bytes <= clients.settings.max_entry_bytes and _is_plain(batch):
            yield _Read(stream_id, tail, batch, merge)


def _is_plain(batch: Batch) -> bool:
    """Whether every entry is a row of its own, as far as is known without the table."""
    rows = batch.encoded
    plain = not rows.faults and not rows.repeats and not rows.defaulted
    return plain and rows.unique == len(rows.rows) == batch.read and not compresses_directly(batch.tables[0])


def _load(connection: psycopg.Connection, found: Sequence[_Read], run: str) -> None:
    """Ledger, rows, and settlement. Raises `_Unusual`, `psycopg.Error`."""
    batches = [one.batch for one in found]
    values: dict[str, Any] = {
        "run": run,
        "ids": [one.stream_id for one in found],
        "starts": [str(batch.ids.start) for batch in batches],
        "stops": [str(batch.ids.stop) for batch in batches],
        "reads": [batch.read for batch in batches],
        "bytes": [batch.bytes for batch in batches],
        "min_times": [batch.encoded.min_time for batch in batches],
        "max_times": [batch.encoded.max_time for batch in batches],
        "added": [one.tail.added for one in found],
        "hashes": [one.tail.last_hash for one in found],
    }
    if connection.execute(_INSERT_LEDGER, values).rowcount != len(found):
        raise _Unusual
    if copy_all(connection, [batch.tables[0] for batch in batches]) != sum(values["reads"]):
        raise _Unusual  # a trigger skipped some
    connection.execute(CHECK_CONSTRAINTS_NOW)
    if connection.execute(_FILL_LEDGER, values).rowcount != len(found):
        raise _Unusual
    for one in found:
        if one.merge:
            merge_ranges(connection, one.stream_id)


def _after(
    clients: Clients, connection: psycopg.Connection, found: Sequence[_Read], absence: AbsenceRecord
) -> tuple[dict[str, int], list[str]]:
    """Publish the progress and trim, as a settlement does. Returns how many entries were trimmed, and warnings."""
    group, client, keep = clients.group(connection), clients.redis, clients.settings.trim_keep
    trimmed: dict[str, int] = {}
    warnings: list[str] = []
    positions = [(one.batch.stream, id_text(one.tail.last), one.tail.added) for one in found]
    try:
        replies = execute(client, [("XGROUP", "SETID", s, group, at, "ENTRIESREAD", n) for s, at, n in positions])
        for one, reply, (stream, at, number) in zip(found, replies, positions, strict=True):
            is_new = isinstance(reply, Exception) and publish(client, stream, group, at, number)
            if one.tail.groups + is_new > 1:  # one of them is ours
                retire_first_release(client, connection, stream)
    except redis.exceptions.RedisError as error:
        warnings.append(f"progress not published as consumer group {group!r}: {one_line(error)}")
    for one in found:
        if keep is not None and not absence.any and _may_trim(one.tail, keep):
            stream, watermark = one.batch.stream, one.tail.last + 1
            trimmed[stream], more = trim_drained(client, connection, stream, one.tail, watermark, keep, group, absence)
            warnings += more
    return trimmed, warnings


def _may_trim(tail: Tail, keep: timedelta) -> bool:
    return (tail.first >> 64) / 1000 < time.time() - keep.total_seconds() + 60  # the clocks may differ a little


@step("drain small streams")
def drain_small_streams(
    clients: Clients, group: SmallStreams, window: TimeWindow, new_chunks: NewChunkLimit, absence: AbsenceRecord
) -> SmallLoads:
    """Drain the plain ones of a group. Raises `SpillwayError`."""
    display_name = group.layout.table.display_name
    results: dict[str, DrainResult] = {}
    with clients.translate_errors(f"drain {len(group.names)} small streams"), clients.postgres() as connection:
        if group.began:
            for name, read, nbytes in connection.execute(_COMMITTED, [list(group.names), group.run]):
                results[name] = DrainResult(name, read, read, bytes=nbytes, table=display_name)
        group.began = True
        began = time.monotonic()
        found = load_group(clients, connection, group, window, new_chunks, absence)
        trimmed, warnings = _after(clients, connection, found, absence) if found else ({}, [])
    seconds = time.monotonic() - began
    for batch in (one.batch for one in found):
        results[batch.stream] = DrainResult(
            batch.stream, batch.read, batch.read, bytes=batch.bytes, seconds=seconds, table=display_name,
            trimmed=trimmed.get(batch.stream, 0),
        )  # fmt: skip
    return SmallLoads(results, tuple(warnings))
