"""The books of what is backfilled: begun before the first slice, held against the source after the last."""

from __future__ import annotations

import psycopg

from infra.connections import Clients
from infra.errors import Terminal
from tasks.backfill.source import Source
from tasks.files.known import register, settle
from tasks.files.reader import cut, rows_in
from tasks.ids import IdRange
from tasks.plan import LEFT
from tasks.step import step

_BEGIN = "INSERT INTO spillway.streams (name, baseline) VALUES (%s, 0) ON CONFLICT (name) DO NOTHING"

_READ = """
    SELECT coalesce(sum(read), 0)::bigint FROM spillway.ledger
     WHERE stream = (SELECT id FROM spillway.streams WHERE name = %s)"""


@step("begin")
def begin(clients: Clients, source: Source) -> None:
    """Make the books of a source where they are not there."""
    with clients.explained(f"begin {source.shown}"), clients.postgres() as connection:
        if source.scanned is not None:
            register(connection, source.scanned, source.books, source.skipped_ids)
        else:
            connection.execute(_BEGIN, [source.books])


@step("look what is left")
def left_now(clients: Clients, source: Source) -> tuple[IdRange, ...]:
    """What the ledger does not have of the source now, of what it was to load: another run has taken a part."""
    with clients.explained(f"look what is left of {source.shown}"), clients.postgres() as connection:
        stop = max(gap.stop for gap in source.gaps)
        free = _free(connection, source.books, stop)
        return tuple(part for gap in source.gaps for part in cut(free, gap.start, gap.stop))


@step("end")
def end(clients: Clients, source: Source) -> None:
    """Note of a file that all of it is loaded, if it is. A stream is settled by the drain that reaches its tail."""
    if (scanned := source.scanned) is None:
        return
    with clients.explained(f"end {source.shown}"), clients.postgres() as connection:
        free = _free(connection, source.books, scanned.end)
        skipped = source.skipped_ids
        if all(skipped is not None and skipped.start <= gap.start and gap.stop <= skipped.stop for gap in free):
            settle(connection, scanned, source.books, rows_in(scanned.section.pieces, free))
        if not free:
            _demand_all(connection, source, scanned.rows)


def _demand_all(connection: psycopg.Connection, source: Source, rows: int) -> None:
    """Raise `Terminal` where the ledger has every address of a file and yet not all of its rows."""
    row = connection.execute(_READ, [source.books]).fetchone()
    assert row is not None  # an aggregate has one row
    if row[0] != rows:
        raise Terminal(
            f"end {source.shown}: the file has {rows} rows, the ledger of {source.books} {row[0]}: the books do not"
            f" balance; see what is missing (spillway reconcile --stream {source.books} --deep)"
        )


def _free(connection: psycopg.Connection, books: str, stop: int) -> list[IdRange]:
    rows = connection.execute(LEFT, {"stream": books, "stop": stop}).fetchall()
    return [IdRange(int(low), int(high)) for *_, low, high in rows if low is not None]
