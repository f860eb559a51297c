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

from tasks.base.clock import server_now
from tasks.maintain.chunk_states import count_rows
from tasks.maintain.drops import policy_reached, read_drops
from tasks.maintain.jobs import read_jobs
from tasks.table.chunks import Chunk, chunks, count

_COUNT_SECONDS = 120.0  # for all chunks together; those that it is not enough for have an estimate
# By how many of the times, the earliest first, lie not after the first event of a range.
_INSERTED = """
    SELECT coalesce(width_bucket(min_time, %s::timestamptz[]), 0), sum(inserted)::bigint FROM spillway.ledger
     GROUP BY 1"""


@dataclass(frozen=True)
class RowAudit:
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


def audit_rows(connection: psycopg.Connection, horizon: datetime | None) -> tuple[RowAudit, dict[Chunk, int]]:
    """Compare the ledger with the table, from `horizon` on, from the start of its chunk and of each later one; and all
    together where all that was dropped was counted. Returns the comparison that matters most, and the rows of each
    chunk counted.

    What drains and drops meanwhile does not disturb: first the ledger is asked, then the table, then what was dropped.
    Raises `psycopg.Error`.
    """
    reached = _uncounted_until(connection)
    earliest = max((time for time in (horizon, reached) if time), default=None)
    # Chunks go as a whole: of the one that a time cuts all is there.
    starts = {chunk.range_start for chunk in chunks(connection) if earliest is None or chunk.range_end > earliest}
    times = sorted(starts | ({earliest} if earliest else set()))
    buckets: dict[int, int] = dict(connection.execute(_INSERTED, [times]).fetchall())
    newest_first = list(reversed(chunks(connection)))
    counted = dict(count_rows(connection, newest_first, _COUNT_SECONDS))
    cut = {earliest: _cut(connection, newest_first, earliest)} if earliest and len(counted) == len(newest_first) else {}
    on_record = read_drops(connection)
    # The database's own job goes on meanwhile: of what it may have taken by now nothing can be said.
    reached = _uncounted_until(connection)
    floor = max((chunk.range_end for chunk in newest_first if reached and chunk.range_end <= reached), default=None)
    found = []
    for place, since in enumerate([None, *times]):
        if (reached is not None) if since is None else (floor is not None and since < floor):
            continue
        rows = _rows_from(since, newest_first, counted, cut)
        if rows is not None:
            inserted = sum(count for bucket, count in buckets.items() if bucket >= place)
            found.append(RowAudit(since, inserted, rows, on_record.rows_after(since), checked=True))
    if not any(one.missing for one in found):
        return next(iter(found), RowAudit(earliest)), counted
    # Of those where as much is missing the latest: it tells most about where.
    return max(reversed(found), key=lambda one: one.missing), counted


def _uncounted_until(connection: psycopg.Connection) -> datetime | None:
    """The time before which chunks may be gone that nobody counted; None where there can be none."""
    reached = policy_reached(read_jobs(connection, "retention"), server_now(connection))
    return max((time for time in (reached, read_drops(connection).uncounted_until) if time), default=None)


def _cut(connection: psycopg.Connection, there: Sequence[Chunk], since: datetime) -> int | None:
    """The rows from `since` on of the chunk that it cuts; None where that takes longer than a statement may."""
    try:
        return sum(count(connection, chunk, since) for chunk in there if chunk.range_start < since < chunk.range_end)
    except psycopg.errors.QueryCanceled:
        return None
    except psycopg.errors.UndefinedTable:  # dropped meanwhile
        return 0


def _rows_from(
    since: datetime | None, there: Sequence[Chunk], counted: dict[Chunk, int], cut: dict[datetime, int | None]
) -> int | None:
    """The rows from `since` on, by chunks; None where one of them was not counted."""
    whole = [chunk for chunk in there if since is None or chunk.range_start >= since]
    if any(chunk not in counted for chunk in whole):
        return None
    rows = sum(counted[chunk] for chunk in whole)
    if since is None or not any(chunk.range_start < since < chunk.range_end for chunk in there):
        return rows
    part = cut.get(since)
    return None if part is None else rows + part
