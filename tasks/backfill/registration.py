"""The books of what is backfilled: begun before the first slice, held against the source after the last."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from infra.connections.clients import Clients
from tasks.backfill.source import BackfillSource
from tasks.base.addresses import IdRange
from tasks.base.step import step
from tasks.files.file_ledger import register, settle
from tasks.files.file_reader import cut, rows_in
from tasks.files.scan import ScannedFile
from tasks.ledger.plan import REMAINING

_BEGIN = "INSERT INTO spillway.streams (name, baseline) VALUES (%s, 0) ON CONFLICT (name) DO NOTHING"

_BEGUN = "SELECT FROM spillway.streams WHERE name = %s"
_READ = """
    SELECT coalesce(sum(read), 0)::bigint FROM spillway.ledger
     WHERE stream = (SELECT id FROM spillway.streams WHERE name = %s)"""


@step("begin")
def register_sources(clients: Clients, sources: Sequence[BackfillSource]) -> None:
    """Make the books of the sources where they are not there."""
    with clients.translate_errors("begin"), clients.postgres() as connection:
        for source in sources:
            if source.scanned is not None:
                register(connection, source.scanned, source.ledger_name, source.skipped_ids)
            else:
                connection.execute(_BEGIN, [source.ledger_name])


@step("look what is left")
def remaining_now(clients: Clients, sources: Sequence[BackfillSource]) -> list[tuple[IdRange, ...]]:
    """What the ledger does not have of each source now, of what it was to load: another run has taken a part."""
    found = []
    with clients.translate_errors("look what is left"), clients.postgres() as connection:
        for source in sources:
            free = _free(connection, source.ledger_name, max(gap.stop for gap in source.gaps))
            found.append(tuple(part for gap in source.gaps for part in cut(free, gap.start, gap.stop)))
    return found


@step("end")
def settle_sources(clients: Clients, sources: Sequence[BackfillSource]) -> None:
    """Note of each file that all of it is loaded, if it is; what does not add up is put down in the source.

    A stream is settled by the drain that reaches its tail.
    """
    with clients.translate_errors("end"), clients.postgres() as connection:
        for source in sources:
            begun = connection.execute(
                _BEGUN, [source.ledger_name]
            ).fetchone()  # where all is skipped there are no books
            if begun is not None and source.scanned is not None:
                _end(connection, source, source.scanned)


def _end(connection: psycopg.Connection, source: BackfillSource, scanned: ScannedFile) -> None:
    free = _free(connection, source.ledger_name, scanned.end)
    skipped = source.skipped_ids
    if all(skipped is not None and skipped.start <= gap.start and gap.stop <= skipped.stop for gap in free):
        settle(connection, scanned, source.ledger_name, rows_in(scanned.section, free))
    if not free:
        source.error = source.error or _why_not_all(connection, source, scanned.rows)


def _why_not_all(connection: psycopg.Connection, source: BackfillSource, rows: int) -> str | None:
    """Why the ledger has every address of a file and yet not all of its rows; None where it has."""
    row = connection.execute(_READ, [source.ledger_name]).fetchone()
    assert row is not None  # an aggregate has one row
    if row[0] == rows:
        return None
    return (
        f"end {source.shown}: the file has {rows} rows, the ledger of {source.ledger_name} {row[0]}: the books do not"
        f" balance; see what is missing (spillway reconcile --stream {source.ledger_name} --deep)"
    )


def _free(connection: psycopg.Connection, ledger_name: str, stop: int) -> list[IdRange]:
    rows = connection.execute(REMAINING, {"stream": ledger_name, "stop": stop}).fetchall()
    return [IdRange(int(low), int(high)) for *_, low, high in rows if low is not None]
