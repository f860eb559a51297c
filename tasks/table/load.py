"""Load one batch: its ledger row, its events and its quarantine in one transaction, or none of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg

from infra.connections.clients import Clients
from infra.epoch import timestamptz_sql
from infra.errors.exceptions import AlreadyDrained, Terminal
from tasks.base.step import step
from tasks.base.stream_sql import fill_in
from tasks.columns.batch import Batch
from tasks.table.causes import UNKNOWN_CAUSE, count_causes, exceeds_bad_share, format_causes
from tasks.table.chunks import open_chunks
from tasks.table.insert import InsertRoute, insert
from tasks.table.new_chunks import NewChunkLimit
from tasks.table.quarantine import quarantine_entries

# Without ON CONFLICT a row is put in first and then compared: of two loads at the same moment each would wait for the
# other, in a deadlock. So, one looks first, and who waits here has nothing yet that another could wait for.
_INSERT_LEDGER = """
    INSERT INTO spillway.ledger (stream, ids, loaded_by)
    SELECT id, numrange(%(start)s, %(stop)s), %(run)s FROM spillway.streams WHERE name = %(stream)s
        ON CONFLICT ON CONSTRAINT ledger_no_overlap DO NOTHING"""
_KNOWN = "SELECT FROM spillway.streams WHERE name = %(stream)s"
_FILL_LEDGER = fill_in(
    """
    UPDATE spillway.ledger
       SET read = %(read)s, inserted = %(inserted)s, duplicates = %(duplicates)s, quarantined = %(quarantined)s,
           bytes = %(bytes)s, seconds = extract(epoch FROM clock_timestamp() - loaded_at),
           min_time = {min_time}, max_time = {max_time}
     WHERE stream = {stream_id} AND ids = numrange(%(start)s, %(stop)s)""",
    min_time=timestamptz_sql("%(min_time)s"),
    max_time=timestamptz_sql("%(max_time)s"),
)
_FIND_LEDGER = fill_in("""
    SELECT inserted, duplicates, quarantined FROM spillway.ledger
     WHERE stream = {stream_id}
       AND ids = numrange(%(start)s, %(stop)s) AND loaded_by = %(run)s""")

_PARTS = fill_in("""
    SELECT FROM spillway.ledger
     WHERE stream = {stream_id}
       AND ids <@ numrange(%(start)s, %(stop)s) AND loaded_by = %(run)s LIMIT 1""")


@dataclass(frozen=True)
class LoadResult:
    """What became of the entries of one range: read = inserted + duplicates + quarantined.

    `causes`: of those in quarantine, how many entries each cause has.
    """

    read: int
    inserted: int
    duplicates: int
    quarantined: int
    bytes: int
    causes: Mapping[str, int] = field(default_factory=dict, compare=False)


_COUNTS = ("read", "inserted", "duplicates", "quarantined", "bytes")


class _Taken(Exception):
    """The ledger did not take the range."""


def load_batch(connection: psycopg.Connection, batch: Batch, run: str, path: InsertRoute) -> LoadResult:
    """Commit `batch` for the run `run`, whole.

    Raises `AlreadyDrained` where the ledger has any of its ids, unless this very run committed this very range
    (the answer to its commit was lost): then what it did is returned. Raises `psycopg.Error` with nothing done.
    """
    key = {"stream": batch.stream, "start": batch.ids.start, "stop": batch.ids.stop, "run": run}
    try:
        with connection.transaction():
            # First, so that of two who load the same range the second waits here, before it has done the work.
            if connection.execute(_INSERT_LEDGER, key).rowcount != 1:
                raise _Taken
            outcome = insert(connection, batch, path)
            faults = (*batch.faults, *outcome.faults)
            quarantine_entries(connection, batch, faults)
            loaded = LoadResult(
                batch.read, outcome.inserted, outcome.duplicates, len(faults), batch.bytes, count_causes(faults)
            )
            counts = {name: getattr(loaded, name) for name in _COUNTS}
            connection.execute(_FILL_LEDGER, key | counts | {"min_time": batch.min_time, "max_time": batch.max_time})
            return loaded
    except _Taken:
        if connection.execute(_KNOWN, key).fetchone() is None:
            raise Terminal(f"stream {batch.stream} is not in spillway.streams any more; drain it again") from None
        row = connection.execute(_FIND_LEDGER, key).fetchone()
        if row is None:
            raise AlreadyDrained(f"{batch.stream} {batch.ids}: drained by another run") from None
        inserted, duplicates, quarantined = row
        causes = count_causes(batch.faults) + Counter({UNKNOWN_CAUSE: quarantined - len(batch.faults)})
        return LoadResult(batch.read, inserted, duplicates, quarantined, batch.bytes, causes)


def check_bad_share(batch: Batch, loaded: LoadResult, max_bad_share: float) -> None:
    """Raise `Terminal` where more than `max_bad_share` of a stream's range went to quarantine: a mapping may be wrong.

    All of it is kept by then.
    """
    if not exceeds_bad_share(loaded.quarantined, loaded.read, max_bad_share):
        return
    raise Terminal(
        f"load {batch.stream} {batch.ids}: {loaded.quarantined} of {loaded.read} entries went to quarantine, expected"
        f" at most {max_bad_share:.0%} (SPILLWAY_MAX_BAD_SHARE): {format_causes(loaded.causes)}; all are kept, and the"
        f" next drain goes on after them: look (spillway quarantine list --stream {batch.stream}), remove the cause,"
        f" then replay them (spillway quarantine redrive --stream {batch.stream})"
    )


def load_in_parts(connection: psycopg.Connection, batch: Batch, run: str, path: InsertRoute) -> LoadResult:
    """`load_batch`, in halves and halves of them where the server would have to decompress more rows for it than it is
    allowed to in one transaction (`timescaledb.max_tuples_decompressed_per_dml_transaction`)."""
    try:
        return load_batch(connection, batch, run, path)
    except psycopg.errors.ConfigurationLimitExceeded:
        if batch.read < 2:
            raise
    except AlreadyDrained:
        if batch.read < 2 or not _was_begun(connection, batch, run):
            raise
    path.merge = True
    return sum_up(load_in_parts(connection, half, run, path) for half in batch.split())


def _was_begun(connection: psycopg.Connection, batch: Batch, run: str) -> bool:
    """Whether an earlier attempt of this very run has committed a part of the range. The parts are the same again."""
    key = {"stream": batch.stream, "start": batch.ids.start, "stop": batch.ids.stop, "run": run}
    return connection.execute(_PARTS, key).fetchone() is not None


def sum_up(parts: Iterable[LoadResult]) -> LoadResult:
    """All together."""
    done = list(parts)
    counts = {name: sum(getattr(part, name) for part in done) for name in _COUNTS}
    return LoadResult(**counts, causes=sum((Counter(part.causes) for part in done), Counter()))


@step("load")
def load(
    clients: Clients,
    batch: Batch,
    run: str,
    path: InsertRoute,
    opens: Sequence[int] = (),
    new_chunks: NewChunkLimit | None = None,
) -> LoadResult | None:
    """`load_in_parts`, as a task; None where another run has drained a part of the range, which is no failure.

    `opens`: times (microseconds since 1970) whose chunks are likely not there yet, and are made beforehand.
    `new_chunks`: what bounds the chunks that the run may make; None where somebody has agreed to all of them.
    """
    with clients.translate_errors(f"load {batch.stream} {batch.ids}"), clients.postgres() as connection:
        with suppress(psycopg.Error):  # it only spares others a wait; what is wrong the load tells
            open_chunks(connection, opens)
        if new_chunks is not None:
            new_chunks.admit(connection, batch)
        try:
            return load_in_parts(connection, batch, run, path)
        except AlreadyDrained:
            return None
