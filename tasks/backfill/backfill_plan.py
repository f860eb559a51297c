"""The plan of a backfill: how many rows it loads, into which chunks, and about how long that takes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, LiteralString

import psycopg
from psycopg import sql

from infra.connections.clients import Clients
from infra.epoch import from_micros, to_millis
from infra.errors.classify import error_scope
from infra.errors.exceptions import Terminal
from infra.errors.sqlstates import ErrorScope
from tasks.backfill.chunk_map import ChunkCounts, ChunkMap, count_chunks
from tasks.backfill.source import BackfillSource
from tasks.backfill.target_table import TargetTables, read_at, shortest_keep
from tasks.base.addresses import IdRange
from tasks.base.step import step
from tasks.columns.batch import Batch, BatchLimits
from tasks.columns.decode import TimeWindow
from tasks.files.file_reader import DAY_MS, clip_ranges, count_rows
from tasks.table.stage import copy_rows

_SAMPLE = BatchLimits(rows=5_000, bytes=4 << 20)
# A copy with the same indexes that is dropped at the end: nothing is written to the table.
_TABLE = sql.Identifier("pg_temp", "spillway_sample")
_MAKE: LiteralString = "CREATE TEMP TABLE spillway_sample (LIKE {table} INCLUDING ALL) ON COMMIT DROP"


@dataclass(frozen=True)
class BackfillPlan:
    """All sources of a backfill together.

    `rows`: all rows in them, of which `remaining` are to be loaded; `expired` of these are older than the retention
    `horizon`. `first_day`, `last_day`: of the remaining rows, None if no row has a time in the accepted range.
    `seconds`: the estimated duration, None unless it was sampled. `compressed`: chunks compressed by this run.
    """

    rows: int
    remaining: int
    expired: int
    horizon: datetime | None
    chunk_counts: ChunkCounts
    first_day: datetime | None
    last_day: datetime | None
    seconds: float | None = None
    compressed: int = 0


def horizon_day(keep: timedelta | None, now: datetime) -> int | None:
    """The first day (ms since 1970) that is not wholly past the retention horizon; None if nothing ever expires."""
    return None if keep is None else to_millis(now - keep) // DAY_MS * DAY_MS


def apply_retention(
    source: BackfillSource, keep: timedelta | None, now: datetime, way: Literal["fail", "skip", "load"]
) -> BackfillSource:
    """The source with its rows past the retention horizon counted, and left out if `way` is skip.

    Raises `Terminal` if such rows of a stream are to be skipped: a range of a stream has no gaps.
    """
    if (horizon := horizon_day(keep, now)) is None:
        return source
    past = {day: rows for day, rows in source.days.items() if 0 < day < horizon}
    if source.file is None:
        expired = sum(past.values())
        if past and way == "skip":
            raise Terminal(
                f"backfill: {expired} entries of {source.display_name} are older than the retention horizon"
                " (SPILLWAY_KEEP), and single entries of a stream cannot be skipped; nothing was loaded: start at a"
                " later entry (--since), or load them (--expired load)"
            )
        return replace(source, expired=expired)
    section = source.file.section
    expired = count_rows(
        section, clip_ranges(source.gaps, 1 << 64, horizon << 64)
    )  # rows without a time have the day 0
    if not expired or way != "skip":
        return replace(source, expired=expired)
    end = max(gap.stop for gap in source.gaps)
    gaps = clip_ranges(source.gaps, 0, 1 << 64) + clip_ranges(source.gaps, horizon << 64, end)
    return replace(
        source,
        expired=expired,
        skipped_ids=IdRange(1 << 64, horizon << 64),
        gaps=gaps,
        days={day: rows for day, rows in source.days.items() if day not in past},
        remaining=count_rows(section, gaps),
    )


def planned(
    sources: Sequence[BackfillSource], chunks: Mapping[str, ChunkMap], horizon: int | None, window: TimeWindow
) -> BackfillPlan:
    """The plan for all sources together. Times outside `window` go to quarantine: they have no day and no chunk.

    `chunks`: of each table, by name. `horizon`: see `horizon_day`; of several tables the latest.
    """

    def dated_days(of: Iterable[BackfillSource]) -> list[int]:
        days = sorted({day for source in of for day in source.days})
        return [day for day in days if day and window.earliest < (day + DAY_MS) * 1000 and day * 1000 <= window.latest]

    dated = dated_days(sources)
    counts = [
        count_chunks(dated_days(source for source in sources if name in source.tables), there)
        for name, there in chunks.items()
    ]
    return BackfillPlan(
        rows=sum(source.rows for source in sources),
        remaining=sum(source.remaining for source in sources),
        expired=sum(source.expired for source in sources),
        horizon=None if horizon is None else _moment(horizon),
        chunk_counts=sum(counts, ChunkCounts(0, 0, 0)),
        first_day=_moment(dated[0]) if dated else None,
        last_day=_moment(dated[-1]) if dated else None,
    )


def _moment(day: int) -> datetime:
    return from_micros(day * 1000)


def sample_rate(connection: psycopg.Connection, batch: Batch) -> float | None:
    """Rows/s that one connection loads into a copy of their table with its indexes; None if no row can be loaded."""
    if not len(batch.encoded.rows):
        return None
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL(_MAKE).format(table=batch.layout.table.identifier))
            began = time.monotonic()
            copy_rows(connection, batch.tables[0], batch.encoded.rows[: batch.encoded.unique], _TABLE)
            return batch.encoded.unique / max(1e-6, time.monotonic() - began)
    except psycopg.Error as error:
        if error_scope(error) is ErrorScope.SERVER:
            raise
        return None  # a row of the sample will go to quarantine


@step("plan")
def make_plan(clients: Clients, sources: Sequence[BackfillSource], targets: TargetTables, sample: bool) -> BackfillPlan:
    """`planned`, with an estimated duration if `sample` is set. Raises `SpillwayError`."""
    config = clients.settings
    horizon = horizon_day(shortest_keep(targets, targets), read_at(targets))
    window = TimeWindow.around_now(config.max_age_days, config.max_ahead_days)
    plan = planned(sources, {name: target.chunks for name, target in targets.items()}, horizon, window)
    largest = max(sources, key=lambda source: source.remaining, default=None)
    if not sample or largest is None or not largest.remaining:
        return plan
    with clients.translate_errors("sample"), clients.postgres() as connection:
        batch = largest.open_reader(largest.gaps, _SAMPLE).read()
        rate = None if batch is None else sample_rate(connection, batch)
    seconds = None if rate is None else plan.remaining / rate / config.parallel_loads
    return replace(plan, seconds=seconds)
