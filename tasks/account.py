"""Is everything there that the ledger says was inserted, but for what retention dropped?

Of any time T: a range of the ledger whose first event is not before T has inserted only rows from T on. So the rows
from T on, with those of dropped chunks that reached beyond T, are at least the inserted ones of all such ranges. It is
an equality where no range reaches over T, nobody but drains writes to `events`, and nothing was redriven. Where all
drops were counted it holds of everything together, too, whatever the ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg

from tasks.chunks import Chunk, chunk_states, count, count_rows
from tasks.drops import drops, policy_reached
from tasks.jobs import jobs, server_now

_COUNT_SECONDS = 120.0  # for all chunks together; those that it is not enough for have an estimate
# By how many of the times, the earliest first, lie not after the first event of a range.
_INSERTED = """
    SELECT coalesce(width_bucket(min_time, %s::timestamptz[]), 0), sum(inserted)::bigint FROM spillway.ledger
     GROUP BY 1"""


@dataclass(frozen=True)
class Account:
    """From the time `since` on (None: all of it): the latest from which most is missing, or as far back as is known.

    `missing` = `inserted` - `rows` - `dropped` where that is more than nothing. `checked`: the rows were counted in
    time.
    """

    since: datetime | None = None
    inserted: int = 0
    rows: int = 0
    dropped: int = 0
    checked: bool = False

    @property
    def missing(self) -> int:
        return max(0, self.inserted - self.rows - self.dropped)


def account(connection: psycopg.Connection, horizon: datetime | None) -> tuple[Account, dict[Chunk, int]]:
    """Compare the ledger with the table, from `horizon` on and from each chunk's start after it; and all together where
    all that was dropped was counted. Returns the comparison that matters most, and the rows of each chunk counted.

    What drains and drops meanwhile does not disturb: first the ledger is asked, then the table, then what was dropped.
    Raises `psycopg.Error`.
    """
    starts = {state.chunk.range_start for state in chunk_states(connection)}
    times = sorted(t for t in {horizon, *starts} if t and (horizon is None or t >= horizon))
    buckets: dict[int, int] = dict(connection.execute(_INSERTED, [times]).fetchall())
    newest_first = [state.chunk for state in reversed(chunk_states(connection))]
    counted = dict(count_rows(connection, newest_first, _COUNT_SECONDS))
    astride = _astride(connection, newest_first, horizon) if len(counted) == len(newest_first) else None
    on_record = drops(connection)
    reached = (on_record.uncounted_until, policy_reached(jobs(connection, "retention"), server_now(connection)))
    floor = max((time for time in reached if time), default=None)
    found = []
    for place, since in enumerate([None, *times]):
        if floor is not None and (since is None or since < floor):
            continue
        rows = _rows_from(since, newest_first, counted, astride)
        if rows is not None:
            inserted = sum(count for bucket, count in buckets.items() if bucket >= place)
            found.append(Account(since, inserted, rows, on_record.rows_after(since), checked=True))
    if not any(one.missing for one in found):
        return next(iter(found), Account(horizon)), counted
    # Of those where as much is missing the latest: it tells most about where.
    return max(reversed(found), key=lambda one: one.missing), counted


def _astride(connection: psycopg.Connection, chunks: Sequence[Chunk], horizon: datetime | None) -> int:
    """The rows from the horizon on of the chunk that it cuts."""
    cut = [chunk for chunk in chunks if horizon and chunk.range_start < horizon < chunk.range_end]
    try:
        return sum(count(connection, chunk, horizon) for chunk in cut)
    except psycopg.errors.UndefinedTable:
        return 0


def _rows_from(
    since: datetime | None, chunks: Sequence[Chunk], counted: dict[Chunk, int], astride: int | None
) -> int | None:
    """The rows from `since` on, by chunks; None where one of them was not counted."""
    whole = [chunk for chunk in chunks if since is None or chunk.range_start >= since]
    if any(chunk not in counted for chunk in whole):
        return None
    rows = sum(counted[chunk] for chunk in whole)
    if any(since is not None and chunk.range_start < since < chunk.range_end for chunk in chunks):
        return None if astride is None else rows + astride
    return rows
