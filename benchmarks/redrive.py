"""The cost of a redrive: python -m benchmarks.redrive

1,000,000 good entries wait in the quarantine. The first of them are replayed, in turns with loads of as many new ones
from memory: processor time of this process and of its session in the database. Then the command `spillway quarantine
redrive` replays all others: wall time, from the selection to the last commit.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

import psycopg
import typer

from benchmarks.measure import processor_seconds
from infra.connections.clients import postgres_connection
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings
from infra.settings import settings as current_settings
from infra.tables.read_table import default_table_name, read_table
from tasks.base.addresses import IdRange, parse_id
from tasks.columns.batch import Batch
from tasks.columns.decode import TimeWindow
from tasks.columns.entries import page_to_columns
from tasks.columns.row_layout import RowLayout, bind
from tasks.table.insert import InsertRoute
from tasks.table.load import load_batch
from tasks.table.quarantine import Selection
from tasks.table.redrive import ReplayBatch, replay, replay_batches

WAITING = 1_000_000
LIMIT_PER_S = 50_000
ROUNDS = 5  # of one batch each
_ANY_TIME = TimeWindow(-(2**62), 2**62)
_FILL = """
    INSERT INTO spillway.quarantine (stream, entry_id, fields, kind, field, reason)
    SELECT s.id, format('%%s-0', 1700000000000 + n),
           ARRAY['event_id', md5(n::text)::uuid::text, 'time', (now() - interval '1 day' + n * interval '10 ms')::text,
                 'event_type', 'view', 'user_id', 'anna', 'properties', '{"page": "/index.html", "n": 1}']::bytea[],
           'refused', 'user_id', 'missing field user_id'
      FROM spillway.streams AS s, generate_series(1, %s::int) AS n WHERE s.name = 'bad'"""


def measure(engine: str | None = None, waiting: int = WAITING) -> dict[str, Any]:
    """Microseconds of processor time and seconds for each entry, of redrives and of loads: medians of the rounds."""
    with throwaway_servers("bench", engine) as (settings, used):
        with postgres_connection(settings) as connection:
            table = default_table_name()
            connection.execute(
                "INSERT INTO spillway.streams (name, baseline, \"table\") VALUES ('bad', 0, %s), ('new', 0, %s)",
                [table, table],
            )
            connection.execute(_FILL, [waiting])
            connection.cursor().execute("VACUUM ANALYZE spillway.quarantine")
            layout = bind(None, read_table(connection, table))
            redrives, loads = [], []
            start = time.perf_counter()
            batches = replay_batches(connection, Selection())
            select_s = time.perf_counter() - start
            for batch in batches[:ROUNDS]:
                page = _read(connection, batch)
                redrives.append(_timed(connection, lambda b=batch: _replay(connection, b, layout), len(page)))
                loads.append(_timed(connection, lambda p=page: _load(connection, p, layout), len(page)))
            connection.cursor().execute("CHECKPOINT")
        per_s = _redrive(settings, waiting - sum(len(batch.entries) for batch in batches[:ROUNDS]))
    return {
        "engine": used.name,
        "select_s": select_s,
        "redrive_us": statistics.median(cpu for cpu, _ in redrives),
        "load_us": statistics.median(cpu for cpu, _ in loads),
        "ratio": statistics.median(a[0] / b[0] for a, b in zip(redrives, loads, strict=True)),
        "entries_per_s": per_s,
    }


def _read(connection: psycopg.Connection, batch: ReplayBatch) -> list[tuple[bytes, list[bytes]]]:
    """The entries of a batch as new ones: the same, with ids of their own for the event."""
    query = "SELECT entry_id, fields FROM spillway.quarantine WHERE entry_id = ANY(%s)"
    rows = connection.cursor(binary=True).execute(query, [list(batch.entries)])
    fields: dict[str, list[bytes]] = dict(rows.fetchall())
    return [(e.encode(), [fields[e][0], b"f" + fields[e][1][1:], *fields[e][2:]]) for e in batch.entries]


def _replay(connection: psycopg.Connection, batch: ReplayBatch, layout: RowLayout) -> int:
    return replay(connection, batch, layout, _ANY_TIME, {}, "benchmark").inserted


def _load(connection: psycopg.Connection, page: list[tuple[bytes, list[bytes]]], layout: RowLayout) -> int:
    ids = IdRange(parse_id(page[0][0]), parse_id(page[-1][0]) + 1)
    batch = Batch("new", ids, page_to_columns(page), layout, _ANY_TIME)
    return load_batch(connection, batch, "benchmark", InsertRoute.STRAIGHT).inserted


def _redrive(settings: Settings, expected: int) -> float:
    """Entries per second of a redrive of everything that waits."""
    from flows.plain.redrive import redrive

    os.environ["SPILLWAY_DATABASE_URL"] = settings.database
    current_settings.cache_clear()
    start = time.perf_counter()
    done = redrive()
    seconds = time.perf_counter() - start
    if (done["tried"], done["inserted"] + done["duplicates"] + done["still_bad"]) != (expected, expected):
        raise AssertionError(f"expected {expected} entries, found {done}")
    if done["inserted"] < 0.9 * expected:
        raise AssertionError(f"expected {expected} new rows, found {done}")
    return float(expected / seconds)


def _timed(connection: psycopg.Connection, work: Any, entries: int) -> tuple[float, float]:
    """Microseconds of processor time, and seconds, for each entry."""
    wall, cpu = time.perf_counter(), processor_seconds(connection)
    inserted = work()
    wall, cpu = time.perf_counter() - wall, processor_seconds(connection) - cpu
    if inserted < 0.9 * entries:  # of the new ones few may share the id of another
        raise AssertionError(f"expected {entries} new rows, found {inserted}")
    return cpu / entries * 1e6, wall / entries


def main(engine: str | None = None, waiting: int = WAITING) -> None:
    """Print them."""
    found = measure(engine, waiting)
    print(f"{found['engine']}: {waiting:,} entries selected in {found['select_s']:.1f} s; a redrive costs"
          f" {found['redrive_us']:.1f} µs of processor time per entry, {found['ratio']:.2f} x a load of"
          f" {found['load_us']:.1f} µs; {found['entries_per_s']:,.0f} entries/s, at least {LIMIT_PER_S:,}")  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
