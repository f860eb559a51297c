"""The cost of rejected rows: python -m benchmarks.rejected

Ranges in which every other row is rejected, in turns with clean ones: by the client (no UUID), by the type of a column
(no JSON), and by a CHECK constraint. Processor time of this process and of its session in the database.
"""

from __future__ import annotations

import itertools
import statistics
import uuid
from typing import Any

import psycopg
import typer

from benchmarks.measure import processor_seconds
from infra.connections.clients import postgres_connection
from infra.servers.throwaway import throwaway_servers
from infra.tables.read_table import default_table_name, read_table
from tasks.base.addresses import IdRange
from tasks.columns.batch import Batch
from tasks.columns.decode import TimeWindow
from tasks.columns.entries import page_to_columns
from tasks.columns.row_layout import RowLayout, bind
from tasks.table.insert import InsertRoute
from tasks.table.load import load_batch

ENTRIES = 20_000
LIMIT = 3.0
_ANY_TIME = TimeWindow(-(2**62), 2**62)
_BAD = {
    "the client": (b"event_id", b"no-uuid-%d"),
    "a type": (b"properties", b"%d{"),
    "a CHECK": (b"user_id", b"secret-%d"),
}


def measure(engine: str | None = None, entries: int = ENTRIES, rounds: int = 3) -> dict[str, Any]:
    """For each kind of rejection: microseconds of processor time per entry, and how many times that of clean ones."""
    with throwaway_servers("bench", engine) as (settings, used):  # noqa: SIM117  the connection needs the settings
        with postgres_connection(settings) as connection:
            table = default_table_name()
            connection.execute("ALTER TABLE events ADD CONSTRAINT no_secret CHECK (user_id NOT LIKE 'secret-%')")
            connection.execute(
                "INSERT INTO spillway.streams (name, baseline, \"table\") VALUES ('bench', 0, %s)", [table]
            )
            layout = bind(None, read_table(connection, table))
            starts = itertools.count(1, entries)
            found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in _BAD}
            for kind in [*_BAD] * (rounds + 1):  # the first round does not count
                clean = _once(connection, layout, next(starts), entries, None)
                found[kind].append((clean, _once(connection, layout, next(starts), entries, kind)))
    return {"engine": used.name} | {
        kind: {
            "clean_us": statistics.median(clean for clean, _ in pairs[1:]),
            "rejected_us": statistics.median(bad for _, bad in pairs[1:]),
            "ratio": statistics.median(bad / clean for clean, bad in pairs[1:]),
        }
        for kind, pairs in found.items()
    }


def _once(connection: psycopg.Connection, layout: RowLayout, start: int, entries: int, kind: str | None) -> float:
    """Microseconds of processor time for each entry of one load; with a `kind`, every other one is rejected."""
    page = [(b"%d-0" % n, _fields(n, kind if n % 2 else None)) for n in range(start, start + entries)]
    ids = IdRange(start << 64, (start + entries) << 64)
    before = processor_seconds(connection)
    batch = Batch("bench", ids, page_to_columns(page), layout, _ANY_TIME)
    loaded = load_batch(connection, batch, "benchmark", InsertRoute.STRAIGHT)
    took = processor_seconds(connection) - before
    if loaded.quarantined != (entries // 2 if kind else 0):
        raise AssertionError(f"expected half of {entries} entries to be rejected, found {loaded.quarantined}")
    return took / entries * 1e6


def _fields(number: int, kind: str | None) -> list[bytes]:
    fields = {
        b"event_id": str(uuid.UUID(int=number)).encode(),
        b"time": b"2026-11-26T12:%02d:%02d.%03dZ" % (number // 60_000 % 60, number // 1000 % 60, number % 1000),
        b"event_type": b"view",
        b"user_id": b"user-%d" % number,
        b"properties": b'{"page": "/index.html", "n": %d}' % number,
    }
    if kind is not None:
        name, value = _BAD[kind]
        fields[name] = value % number
    return [part for pair in fields.items() for part in pair]


def main(engine: str | None = None, entries: int = ENTRIES, rounds: int = 3) -> None:
    """Print them."""
    found = measure(engine, entries, rounds)
    for kind in _BAD:
        per_entry, clean, ratio = (found[kind][name] for name in ("rejected_us", "clean_us", "ratio"))
        print(f"{found['engine']}: half of the rows rejected by {kind}: {per_entry:.1f} µs of processor time per entry,"
              f" {ratio:.1f} x a clean range ({clean:.1f}), at most {LIMIT:g}")  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
