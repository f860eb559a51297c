"""Load one batch: its ledger row, its events and its quarantined entries, in one transaction or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg
from psycopg.types.json import Jsonb

from infra.connections.clients import Clients
from infra.epoch import timestamptz_sql
from infra.errors.exceptions import AlreadyDrained, Terminal
from infra.tables.table import Table
from tasks.base.step import step
from tasks.base.stream_sql import fill_in
from tasks.columns.batch import Batch
from tasks.ledger.stream_progress import progress_fault
from tasks.table.causes import UNKNOWN_CAUSE, count_causes, exceeds_bad_share, format_causes
from tasks.table.chunks import open_chunks
from tasks.table.direct_compression import create_chunks
from tasks.table.insert import InsertRoute, insert_all
from tasks.table.new_chunks import NewChunkLimit
from tasks.table.quarantine_entries import quarantine_entries

# Without ON CONFLICT the server would insert the row first and check the exclusion constraint afterwards: two
# simultaneous loads would each wait for the other, a deadlock. With it, the second load waits before it inserts
# anything, so a waiting load holds no lock that others need.
_INSERT_LEDGER = """
    INSERT INTO spillway.ledger (stream, ids, loaded_by)
    SELECT id, numrange(%(start)s, %(stop)s), %(run)s FROM spillway.streams
     WHERE name = %(stream)s AND coalesce("table", %(table)s) = %(table)s
        ON CONFLICT ON CONSTRAINT ledger_no_overlap DO NOTHING"""
_TABLE = 'SELECT coalesce("table", %(table)s) FROM spillway.streams WHERE name = %(stream)s'
# The last statement before the COMMIT, since it locks the stream's row: loads of one stream run at the same time, and
# wait for each other only here.
_FILL_LEDGER = fill_in(
    """
    WITH range AS (
    UPDATE spillway.ledger
       SET read = %(read)s, rows = %(rows)s, inserted = %(inserted)s, by_table = %(by_table)s,
           duplicates = %(duplicates)s, quarantined = %(quarantined)s, bytes = %(bytes)s,
           min_time = {min_time}, max_time = {max_time},
           seconds = extract(epoch FROM clock_timestamp() - loaded_at)
     WHERE stream = {stream_id} AND ids = numrange(%(start)s, %(stop)s)
 RETURNING stream, ids, read, inserted, loaded_at)
    UPDATE spillway.streams AS s
       SET drained = s.drained + nummultirange(range.ids), read = s.read + range.read,
           inserted = s.inserted + range.inserted, loaded_at = greatest(s.loaded_at, range.loaded_at)
      FROM range WHERE s.id = range.stream""",
    min_time=timestamptz_sql("%(min_time)s"),
    max_time=timestamptz_sql("%(max_time)s"),
)
_FIND_LEDGER = fill_in("""
    SELECT inserted, duplicates, quarantined FROM spillway.ledger
     WHERE stream = {stream_id}
       AND ids = numrange(%(start)s, %(stop)s) AND loaded_by = %(run)s""")

# Ranges of the ledger that the progress of the stream lacks: the next plan would find the same gap again, without end.
_NOT_IN_PROGRESS = """
    SELECT FROM spillway.streams AS s JOIN spillway.ledger AS l ON l.stream = s.id
     WHERE s.name = %(stream)s AND l.ids && numrange(%(start)s, %(stop)s) AND NOT l.ids <@ s.drained LIMIT 1"""
_PARTS = fill_in("""
    SELECT FROM spillway.ledger
     WHERE stream = {stream_id}
       AND ids <@ numrange(%(start)s, %(stop)s) AND loaded_by = %(run)s LIMIT 1""")


@dataclass(frozen=True)
class LoadResult:
    """What happened to the entries of one range: rows = inserted + duplicates + quarantined.

    `rows`: how many rows the entries became; None means one each. `compressed`: see `InsertResult`. `causes`: the
    quarantined entries, counted by cause; see `count_causes`. `next_route`: see `InsertResult`.
    """

    read: int
    inserted: int
    duplicates: int
    quarantined: int
    bytes: int
    causes: Mapping[str, int] = field(default_factory=dict, compare=False)
    next_route: InsertRoute = field(default=InsertRoute.STRAIGHT, compare=False)
    rows: int | None = None
    compressed: int = 0


_COUNTS = ("read", "inserted", "duplicates", "quarantined", "bytes")


class _RangeTaken(Exception):
    """The ledger already has ids of the range."""


def load_batch(connection: psycopg.Connection, batch: Batch, run: str, route: InsertRoute) -> LoadResult:
    """Commit `batch` for the run `run`, completely or not at all.

    Raises `AlreadyDrained` if the ledger has any of its ids, unless this run has committed exactly this range before
    (the reply to its COMMIT was lost): then the counts of that load are returned. Raises `Terminal` if the stream is
    not registered with the table of the batch, `psycopg.Error` with nothing done.
    """
    for rows in batch.tables:
        create_chunks(connection, rows)
    table = batch.layout.table.regclass
    key = {"stream": batch.stream, "start": batch.ids.start, "stop": batch.ids.stop, "run": run, "table": table}
    try:
        with connection.transaction():
            # First, so that the second of two loads of one range waits here, before it does the work.
            if connection.execute(_INSERT_LEDGER, key).rowcount != 1:
                raise _RangeTaken
            outcome = insert_all(connection, batch.tables, route)
            faults = (*batch.encoded.faults, *outcome.faults)
            quarantine_entries(connection, batch, faults)
            loaded = LoadResult(
                batch.read, outcome.inserted, outcome.duplicates, len(faults), batch.bytes,
                count_causes(faults), outcome.next_route, batch.count if batch.layout.mapping.each else None,
                outcome.compressed,
            )  # fmt: skip
            counts = {name: getattr(loaded, name) for name in _COUNTS} | {"rows": batch.count}
            counts |= {"by_table": Jsonb(outcome.by_table) if batch.layout.routes else None}
            connection.execute(
                _FILL_LEDGER, key | counts | {"min_time": batch.encoded.min_time, "max_time": batch.encoded.max_time}
            )
            return loaded
    except _RangeTaken:
        known = connection.execute(_TABLE, key).fetchone()
        if known != (table,):
            found = "not in spillway.streams any more" if known is None else f"now a stream of {known[0]}"
            raise Terminal(
                f"load: stream {batch.stream}: expected a stream of {table}, it is {found}; nothing was loaded; run the"
                " command again"
            ) from None
        row = connection.execute(_FIND_LEDGER, key).fetchone()
        if row is None:
            _check_progress(connection, batch)
            raise AlreadyDrained(f"{batch.stream} {batch.ids}: drained by another run") from None
        inserted, duplicates, quarantined = row
        causes = count_causes(batch.encoded.faults) + Counter({UNKNOWN_CAUSE: quarantined - len(batch.encoded.faults)})
        return LoadResult(batch.read, inserted, duplicates, quarantined, batch.bytes, causes, route)


def _check_progress(connection: psycopg.Connection, batch: Batch) -> None:
    """Raise `Terminal` if the ledger has ids of the batch and the progress in the stream's row does not."""
    key = {"stream": batch.stream, "start": batch.ids.start, "stop": batch.ids.stop}
    if connection.execute(_NOT_IN_PROGRESS, key).fetchone() is not None:
        raise Terminal(
            f"load {batch.stream} {batch.ids}: {progress_fault(batch.stream)}: expected these ids to be drained, as in"
            " spillway.ledger, found them missing in spillway.streams; somebody edited one of them, or a drain of an"
            " earlier release ran during the upgrade; nothing was loaded twice; run as the owner of the tables:"
            " spillway schema"
        )


def check_bad_share(batch: Batch, loaded: LoadResult, max_bad_share: float) -> None:
    """Raise `Terminal` if more than `max_bad_share` of a range went to quarantine: the mapping may be wrong.

    Call it after the load: everything is already committed.
    """
    if not exceeds_bad_share(loaded.quarantined, loaded.read, max_bad_share):
        return
    raise Terminal(
        f"load {batch.stream} {batch.ids}: {loaded.quarantined} of {loaded.read} entries went to quarantine, expected"
        f" at most {max_bad_share:.0%} (SPILLWAY_MAX_BAD_SHARE): {format_causes(loaded.causes)}; all are kept in"
        f" quarantine; list them (spillway quarantine list --stream {batch.stream}), fix the cause,"
        f" then replay them (spillway quarantine redrive --stream {batch.stream})"
    )


def load_in_parts(connection: psycopg.Connection, batch: Batch, run: str, route: InsertRoute) -> LoadResult:
    """`load_batch`, or if the server refuses to decompress that many rows in one transaction, the same in halves.

    The limit is `timescaledb.max_tuples_decompressed_per_dml_transaction`. Halves are halved again as needed, each in
    a transaction of its own. Raises as `load_batch`; halves that are already committed stay.
    """
    try:
        return load_batch(connection, batch, run, route)
    except psycopg.errors.ConfigurationLimitExceeded:
        if batch.read < 2:
            raise
    except AlreadyDrained:
        if batch.read < 2 or not _is_partly_loaded(connection, batch, run):
            raise
    route = InsertRoute.MERGE
    parts = []
    for half in batch.split():
        parts.append(load_in_parts(connection, half, run, route))
        route = parts[-1].next_route
    return sum_results(parts)


def _is_partly_loaded(connection: psycopg.Connection, batch: Batch, run: str) -> bool:
    """Whether an earlier attempt of this run has committed part of the range. A second attempt makes the same parts."""
    key = {"stream": batch.stream, "start": batch.ids.start, "stop": batch.ids.stop, "run": run}
    return connection.execute(_PARTS, key).fetchone() is not None


def sum_results(parts: Sequence[LoadResult]) -> LoadResult:
    """The totals of the parts (at least one) of a batch, with the `next_route` of the last part."""
    counts = {name: sum(getattr(part, name) for part in parts) for name in _COUNTS}
    causes = sum((Counter(part.causes) for part in parts), Counter[str]())
    rows = sum(part.read if part.rows is None else part.rows for part in parts)
    return LoadResult(
        **counts,
        causes=causes,
        next_route=parts[-1].next_route,
        rows=None if parts[0].rows is None else rows,
        compressed=sum(part.compressed for part in parts),
    )


@step("load")
def load(
    clients: Clients,
    batch: Batch,
    run: str,
    route: InsertRoute,
    new_chunk_times: Sequence[tuple[Table, Sequence[int]]] = (),
    new_chunks: NewChunkLimit | None = None,
) -> LoadResult | None:
    """`load_in_parts`, as a task. Returns None if another run has drained part of the range.

    `new_chunk_times`: for each table, times (microseconds since 1970) whose chunks probably do not exist yet; they are
    created first.
    `new_chunks`: limits the chunks that the run may create. None means no limit: the user has agreed to all.
    """
    with clients.translate_errors(f"load {batch.stream} {batch.ids}"), clients.postgres() as connection:
        with suppress(psycopg.Error):  # it only saves others a wait; the load itself reports any error
            for table, times in new_chunk_times:
                open_chunks(connection, table, times)
        if new_chunks is not None:
            batch = new_chunks.admit(connection, batch)
        try:
            return load_in_parts(connection, batch, run, route)
        except AlreadyDrained:
            return None
