"""Batches of entries for a table that a user has changed, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import psycopg

from tasks.base.addresses import IdRange
from tasks.columns.batch import Batch
from tasks.columns.decode import TimeWindow
from tasks.columns.entries import columns_of_page
from tasks.table.insert import InsertRoute
from tasks.table.load import load_batch

STREAM = "user-table"
EVER = TimeWindow(-(2**62), 2**62)
WAYS = {"straight": False, "merged": True}

Entry = Mapping[bytes, bytes]


def batch_of(entries: Sequence[Entry], first: int = 1) -> Batch:
    """A batch of these entries, with the ids `first`-0 and so on."""
    page = [
        (b"%d-0" % number, [part for pair in entry.items() for part in pair])
        for number, entry in enumerate(entries, first)
    ]
    return Batch(STREAM, IdRange(first << 64, (first + len(entries)) << 64), columns_of_page(page), None, EVER)


def load(
    connection: psycopg.Connection, entries: Sequence[Entry], merge: bool = False, first: int = 1
) -> tuple[int, int, int]:
    """Load a batch; returns inserted, duplicates and quarantined as the ledger has them."""
    batch = batch_of(entries, first)
    load_batch(connection, batch, "test", InsertRoute(merge))
    query = "SELECT inserted, duplicates, quarantined, read FROM spillway.ledger WHERE lower(ids) = %s::numeric"
    row = connection.execute(query, [first << 64]).fetchone()
    assert row is not None
    inserted, duplicates, quarantined, read = row
    assert min(row) >= 0
    assert read == len(entries) == inserted + duplicates + quarantined
    return inserted, duplicates, quarantined


def quarantined(connection: psycopg.Connection) -> dict[int, tuple[str, str]]:
    """Kind and reason of what waits in quarantine, by the first part of the entry's id."""
    query = "SELECT split_part(entry_id, '-', 1)::int, kind, reason FROM spillway.quarantine WHERE outcome IS NULL"
    return {number: (kind, reason) for number, kind, reason in connection.execute(query)}


def keys(entries: Iterable[Entry]) -> set[str]:
    """The event ids."""
    return {entry[b"event_id"].decode() for entry in entries}


def table_keys(connection: psycopg.Connection) -> list[str]:
    """The event ids of all rows, sorted."""
    return [key for (key,) in connection.execute("SELECT event_id::text FROM events ORDER BY 1")]
