"""Ledger rows as earlier releases wrote them."""

from __future__ import annotations

import psycopg
import redis

from flows.drain import drain
from tasks.base.addresses import parse_id
from tasks.ledger.plan import DrainPlan
from tests.support.ledger_edits import edit_ledger
from tests.support.stream_entries import FIRST_MS


def record_as_settled(database: psycopg.Connection, plan: DrainPlan, read: int) -> None:
    """Record a plan as the first release did: one ledger row for all gaps, of which `read` entries were read."""
    edit_ledger(
        database,
        "INSERT INTO spillway.ledger (stream, ids, read, rows, inserted, loaded_by)"
        " SELECT id, numrange(%s, %s), %s, %s, %s, 'x' FROM spillway.streams WHERE name = %s",
        [plan.gaps[0].start, plan.gaps[-1].stop, read, read, read, plan.stream],
    )


def entry_address(n: int) -> int:
    return parse_id(f"{FIRST_MS + n}-0")


def record_as_lost(
    database: psycopg.Connection, client: redis.Redis, stream: str, read: int, upto: int, how: str
) -> None:
    """Record what the first release recorded if a stream of `upto` entries was away after `read` entries were read.

    `how`: the rest is "the same row" as the entries that were read, "a row of its own", or "not settled".
    """
    drain(stream, max_events=read)
    name = {
        "stream": stream,
        "read": entry_address(read - 1) + 1,
        "stop": entry_address(upto - 1) + 1,
        "lost": upto - read,
    }
    if how == "a row of its own":
        edit_ledger(
            database,
            "INSERT INTO spillway.ledger (stream, ids, loaded_by) SELECT id, numrange(%(read)s, %(stop)s), 'x'"
            " FROM spillway.streams WHERE name = %(stream)s",
            name,
        )
    else:
        edit_ledger(
            database,
            "UPDATE spillway.ledger SET ids = numrange(lower(ids), %(stop)s) WHERE upper(ids) = %(read)s",
            name,
        )
    if how == "not settled":
        return
    database.execute("UPDATE spillway.ledger SET lost = %(lost)s, lost_ids = numrange(0, %(stop)s)"
                     " WHERE upper(ids) = %(stop)s", name)  # fmt: skip
    database.execute(
        "UPDATE spillway.streams SET lost = %(lost)s, settled_id = %(stop)s - 1, settled_entries_added = baseline"
        " + %(lost)s + (SELECT sum(read) FROM spillway.ledger), settled_at = now()", name
    )  # fmt: skip
