"""The ledger of a backfill: sources are registered before the first load, and settled after the last one."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from infra.connections.clients import Clients
from tasks.backfill.source import BackfillSource
from tasks.base.addresses import IdRange
from tasks.base.step import step
from tasks.files.file_ledger import register, settle
from tasks.files.file_reader import clip_ranges, count_rows
from tasks.files.scan import ScannedFile
from tasks.ledger.register_stream import register_stream
from tasks.ledger.undrained import undrained

_IS_REGISTERED = "SELECT FROM spillway.streams WHERE name = %s"
_READ = "SELECT read FROM spillway.streams WHERE name = %s"


@step("register sources")
def register_sources(clients: Clients, sources: Sequence[BackfillSource]) -> None:
    """Register in the ledger each source that is not yet there."""
    with clients.translate_errors("register sources"), clients.postgres() as connection:
        for source in sources:
            if source.file is not None:
                register(connection, source.file, source.ledger_name, source.skipped_ids)
            else:
                register_stream(connection, source.ledger_name, source.table)


@step("find remaining rows")
def remaining_now(clients: Clients, sources: Sequence[BackfillSource]) -> list[tuple[IdRange, ...]]:
    """For each source, the parts of its `gaps` that the ledger still lacks: another run may have loaded some."""
    remaining = []
    with clients.translate_errors("find remaining rows"), clients.postgres() as connection:
        for source in sources:
            free = _free(connection, source.ledger_name, max(gap.stop for gap in source.gaps))
            remaining.append(tuple(part for gap in source.gaps for part in clip_ranges(free, gap.start, gap.stop)))
    return remaining


@step("settle sources")
def settle_sources(clients: Clients, sources: Sequence[BackfillSource]) -> list[str | None]:
    """Record each file that is loaded completely. Returns for each source why its ledger does not add up, or None.

    Streams are not settled here: the drain that reaches a stream's tail does that.
    """
    with clients.translate_errors("settle sources"), clients.postgres() as connection:
        return [None if source.file is None else _settle_file(connection, source, source.file) for source in sources]


def _settle_file(connection: psycopg.Connection, source: BackfillSource, file: ScannedFile) -> str | None:
    if connection.execute(_IS_REGISTERED, [source.ledger_name]).fetchone() is None:
        return None  # all its rows were skipped, so it was never registered
    free = _free(connection, source.ledger_name, file.end)
    skipped = source.skipped_ids
    if all(skipped is not None and skipped.start <= gap.start and gap.stop <= skipped.stop for gap in free):
        settle(connection, file, source.ledger_name, count_rows(file.section, free))
    if free:
        return None
    row = connection.execute(_READ, [source.ledger_name]).fetchone()
    assert row is not None  # it is registered
    return why_incomplete(source, file.rows, row[0])


def why_incomplete(source: BackfillSource, rows: int, read: int) -> str | None:
    """The error if the ledger has every address of a file, but has `read` other than its `rows`; otherwise None."""
    if read == rows:
        return None
    return (
        f"backfill: {source.display_name}: expected {rows} rows in the ledger of {source.ledger_name}, found {read}:"
        " the books do not balance; nothing else was changed; list what is missing: spillway reconcile --stream"
        f" {source.ledger_name} --deep"
    )


def _free(connection: psycopg.Connection, ledger_name: str, stop: int) -> tuple[IdRange, ...]:
    found = undrained(connection, ledger_name, stop)
    return found.gaps if found else ()
