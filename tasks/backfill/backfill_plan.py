"""The plan of a backfill: what of how much it loads, into which chunks, and how long that may take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, LiteralString

import psycopg
from psycopg import sql

from infra.connections.clients import Clients
from infra.errors.classify import error_scope
from infra.errors.exceptions import Terminal
from infra.errors.sqlstates import ErrorScope
from infra.table import on_events
from tasks.backfill.chunk_map import ChunkCounts, ChunkMap, count_chunks
from tasks.backfill.source import BackfillSource
from tasks.base.addresses import IdRange
from tasks.base.step import step
from tasks.columns.batch import Batch
from tasks.columns.decode import TimeWindow
from tasks.files.file_reader import DAY_MS, cut, rows_in
from tasks.streams.reader import BatchLimits
from tasks.table.stage import copy_events

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SAMPLE = BatchLimits(rows=5_000, bytes=4 << 20)
# With the same indexes, and gone at the end: nothing is written into `events`.
_TABLE = sql.Identifier("pg_temp", "spillway_sample")
_MAKE: LiteralString = "CREATE TEMP TABLE spillway_sample (LIKE {events} INCLUDING ALL) ON COMMIT DROP"


@dataclass(frozen=True)
class BackfillPlan:
    """Of all sources together: rows in them, left to load, of those past the retention `horizon`; the chunks touched.

    The times are of days, None where there is nothing left to become a row; `seconds`: about how long it takes, where
    that was sampled; `compressed`: how many chunks were compressed, beside the loads and at the end.
    """

    rows: int
    left: int
    expired: int
    horizon: datetime | None
    chunk_counts: ChunkCounts
    first_day: datetime | None
    last_day: datetime | None
    seconds: float | None = None
    compressed: int = 0


def horizon_day(keep: timedelta | None, now: datetime) -> int | None:
    """The first day (ms since 1970) that is not wholly past the retention horizon; None where all is kept for ever."""
    return None if keep is None else (now - keep - _EPOCH) // timedelta(milliseconds=1) // DAY_MS * DAY_MS


def expire(
    source: BackfillSource, keep: timedelta | None, layout: ChunkMap, way: Literal["fail", "skip", "load"]
) -> None:
    """Count the rows of a source that are past the retention horizon, and leave them out where `way` is skip.

    Raises `Terminal` for a stream of which such rows are to be left out: a range of a stream has no gaps.
    """
    if (horizon := horizon_day(keep, layout.now)) is None:
        return
    past = {day: rows for day, rows in source.days.items() if 0 < day < horizon}
    if source.scanned is None:
        source.expired = sum(past.values())
        if past and way == "skip":
            raise Terminal(
                f"backfill: {source.expired} entries of {source.shown} are past the retention horizon, and those of a"
                " stream cannot be left out one by one: begin later (--from), or load them (--expired load)"
            )
        return
    section = source.scanned.section
    source.expired = rows_in(section, cut(source.gaps, 1 << 64, horizon << 64))  # what has no time has the day 0
    if source.expired and way == "skip":
        source.skipped_ids = IdRange(1 << 64, horizon << 64)
        end = max(gap.stop for gap in source.gaps)
        source.gaps = cut(source.gaps, 0, 1 << 64) + cut(source.gaps, horizon << 64, end)
        source.days = {day: rows for day, rows in source.days.items() if day not in past}
        source.left = rows_in(section, source.gaps)


def planned(
    sources: Sequence[BackfillSource], layout: ChunkMap, keep: timedelta | None, window: TimeWindow
) -> BackfillPlan:
    """All sources together. Of times outside the window, which go to quarantine, there is no day and no chunk."""
    days = sorted({day for source in sources for day in source.days})
    dated = [day for day in days if day and window.earliest < (day + DAY_MS) * 1000 and day * 1000 <= window.latest]
    horizon = horizon_day(keep, layout.now)
    return BackfillPlan(
        rows=sum(source.rows for source in sources),
        left=sum(source.left for source in sources),
        expired=sum(source.expired for source in sources),
        horizon=None if horizon is None else _moment(horizon),
        chunk_counts=count_chunks(dated, layout),
        first_day=_moment(dated[0]) if dated else None,
        last_day=_moment(dated[-1]) if dated else None,
    )


def _moment(day: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=day)


def sample_rate(connection: psycopg.Connection, batch: Batch) -> float | None:
    """Rows/s into a temporary table with the indexes of `events`, by one connection; None where none can be copied."""
    if not len(batch.rows):
        return None
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(on_events(_MAKE))
            began = time.monotonic()
            copy_events(connection, batch, batch.rows[: batch.unique], _TABLE)
            return batch.unique / max(1e-6, time.monotonic() - began)
    except psycopg.Error as error:
        if error_scope(error) is ErrorScope.SERVER:
            raise
        return None  # a row that will go to quarantine


@step("plan")
def make_plan(clients: Clients, sources: Sequence[BackfillSource], layout: ChunkMap, sample: bool) -> BackfillPlan:
    """`planned`, with the time that it may take where a sample is to be measured."""
    config = clients.settings
    plan = planned(sources, layout, config.keep, TimeWindow.around_now(config.max_age_days, config.max_ahead_days))
    largest = max(sources, key=lambda source: source.left, default=None)
    if not sample or largest is None or not largest.left:
        return plan
    with clients.translate_errors("sample"), clients.postgres() as connection:
        batch = largest.reader(largest.gaps, _SAMPLE).read()
        rate = None if batch is None else sample_rate(connection, batch)
    seconds = None if rate is None else plan.left / rate / config.parallel_loads
    return BackfillPlan(**(vars(plan) | {"seconds": seconds}))
