"""How the cost of duplicates, checks and maintenance grows with the number of chunks:  python -m benchmarks.chunks

Processor time of the client and PostgreSQL for `events`, for a table of the user's with a key that does not begin with
the time, and for one without a key: 3,000 rows spread over all chunks that arrive again, their comparison by `reconcile
--deep`, and the check of `maintain`; and a whole `maintain --dry-run` of the three, which includes Prefect. Starts its
own servers; needs Linux, whose /proc counts the time.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, LiteralString

import psycopg
import typer
from psycopg import sql
from rich.console import Console
from rich.table import Table as Grid

from benchmarks.scale import Clocks
from flows.environment import set_prefect_defaults
from infra.connections.clients import postgres_connection
from infra.errors.exceptions import Terminal
from infra.mapping.stream_mapping import BUILT_IN, StreamMapping
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings
from infra.settings import settings as current_settings
from infra.tables.read_table import default_table_name, read_table
from infra.tables.statements import parameter_safe
from infra.tables.table import Table
from tasks.base.addresses import IdRange
from tasks.columns.batch import Batch
from tasks.columns.decode import EVERY_TIME
from tasks.columns.entries import page_to_columns
from tasks.columns.row_layout import RowLayout, bind
from tasks.maintain.check import gather_facts
from tasks.maintain.judge import judge
from tasks.maintain.maintained_table import maintained_table
from tasks.reconcile.compare import compare
from tasks.table.insert import InsertRoute
from tasks.table.load import load_batch

CHUNKS = (500, 1_000, 2_000, 5_000)
ROWS_PER_CHUNK = 6  # one an hour
AGAIN = 3_000  # rows that arrive again
MOST_TIMES_LINEAR = 1.5  # at most: the cost at the most chunks ÷ at the fewest ÷ the ratio of the chunks
_FIRST = datetime(2000, 1, 1, tzinfo=UTC)
_CHUNKS_OF_AN_INSERT = 200
TABLES = {default_table_name(): "events", "bench.keyed": "id first in the key", "bench.keyless": "no key"}
_MAKE: tuple[LiteralString, ...] = (
    "CREATE SCHEMA bench",
    """CREATE TABLE bench.keyed (event_id text, event_type text, user_id text, time timestamptz NOT NULL,
                                  properties jsonb, PRIMARY KEY (event_id, time))""",
    "CREATE TABLE bench.keyless (event_id text, event_type text, user_id text, time timestamptz NOT NULL)",
    "SELECT create_hypertable('bench.keyed', by_range('time', interval '6 hours'))",
    "SELECT create_hypertable('bench.keyless', by_range('time', interval '6 hours'))",
    "SELECT set_chunk_time_interval('events', interval '6 hours')",
)
_FILL: LiteralString = """
    INSERT INTO {table} (event_id, event_type, user_id, time)
    SELECT lpad(to_hex(n), 32, '0')::uuid, 'click', 'somebody', %(first)s + n * interval '1 hour'
      FROM generate_series(%(start)s, %(stop)s - 1) AS n"""
_LEDGER = """
    INSERT INTO spillway.ledger (stream, ids, read, rows, inserted, min_time, max_time, loaded_by)
    SELECT id, numrange(n, n + %(each)s), %(each)s, %(each)s, %(each)s, %(first)s + n * interval '1 hour',
           %(first)s + (n + %(each)s - 1) * interval '1 hour', 'benchmark'
      FROM spillway.streams, generate_series(%(start)s, %(stop)s - 1, %(each)s) AS n WHERE name = %(stream)s"""


@dataclass(frozen=True)
class Figure:
    """Processor time of one action, and the time that passed, in seconds."""

    what: str
    chunks: int
    processor: float
    passed: float


def measure(engine: str | None = None, sizes: Sequence[int] = CHUNKS) -> dict[str, Any]:
    """The figures of each action and number of chunks, and how many times as much as linear the last one costs."""
    with throwaway_servers("bench", engine) as (settings, used), TemporaryDirectory() as home:
        os.environ |= {
            "PREFECT_HOME": home, "PREFECT_LOGGING_LEVEL": "ERROR", "SPILLWAY_REDIS_URL": settings.redis,
            "SPILLWAY_DATABASE_URL": settings.database, "SPILLWAY_KEEP": "",
        }  # fmt: skip
        set_prefect_defaults()
        current_settings.cache_clear()
        figures = list(_figures(settings, sizes))
    least, most = min(sizes), max(sizes)
    by_what = {one.what: {f.chunks: f.processor for f in figures if f.what == one.what} for one in figures}
    ratios = {what: round(found[most] / found[least] / (most / least), 2) for what, found in by_what.items()}
    return {
        "engine": used.name,
        "figures": [vars(one) for one in figures],
        "times_linear": ratios,
        "holds": max(ratios.values()) <= MOST_TIMES_LINEAR,
    }


def _figures(settings: Settings, sizes: Sequence[int]) -> Iterator[Figure]:
    with psycopg.connect(settings.database, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET autovacuum = off")  # it would read the new chunks meanwhile
        connection.execute("SELECT pg_reload_conf()")
        for statement in _MAKE:
            connection.execute(statement)
        there = 0
        layouts = [_layout(connection, name) for name in TABLES]
        for number in sorted(sizes):
            for layout in layouts:
                _fill(connection, layout.table, there, number)
            there = number
            connection.execute("VACUUM ANALYZE spillway.streams, spillway.ledger")
            yield from _figures_of(settings, layouts, number)


def _figures_of(settings: Settings, layouts: Sequence[RowLayout], chunks: int) -> Iterator[Figure]:
    clocks = Clocks(settings)

    def measured(what: str, run: Callable[[], None]) -> Figure:
        before, began = clocks.now().total, time.monotonic()
        run()
        return Figure(what, chunks, clocks.now().total - before, time.monotonic() - began)

    for layout, title in zip(layouts, TABLES.values(), strict=True):
        batch = _batch(layout, f"again {title} {chunks}", chunks)
        if layout.key:
            yield measured(f"{title}: duplicates", partial(_load_again, settings, batch))
        yield measured(f"{title}: reconcile --deep", partial(_compare, settings, batch))
        yield measured(f"{title}: check", partial(_check, settings, layout))
    _dry_run()  # the first run starts Prefect's API
    yield measured("maintain --dry-run of all", _dry_run)


def _fill(connection: psycopg.Connection, table: Table, start: int, stop: int) -> None:
    """Add the chunks from number `start` to before `stop`, and their ledger ranges, one for each."""
    for low in range(start, stop, _CHUNKS_OF_AN_INSERT):
        high = min(stop, low + _CHUNKS_OF_AN_INSERT)
        values = {"first": _FIRST, "start": low * ROWS_PER_CHUNK, "stop": high * ROWS_PER_CHUNK}
        connection.execute(sql.SQL(_FILL).format(table=parameter_safe(table.identifier)), values)
    connection.execute(
        'INSERT INTO spillway.streams (name, "table", baseline) VALUES (%s, %s, 0) ON CONFLICT DO NOTHING',
        [table.regclass, table.regclass],
    )
    bounds = {"start": start * ROWS_PER_CHUNK, "stop": stop * ROWS_PER_CHUNK, "each": ROWS_PER_CHUNK}
    connection.execute(_LEDGER, bounds | {"first": _FIRST, "stream": table.regclass})


def _layout(connection: psycopg.Connection, name: str) -> RowLayout:
    mapping = BUILT_IN if name == default_table_name() else StreamMapping(name=name, table=name, columns={})
    return bind(mapping, read_table(connection, name))


def _batch(layout: RowLayout, stream: str, chunks: int) -> Batch:
    """`AGAIN` rows of the table, evenly spread over its chunks, as entries."""
    page = []
    for number in range(AGAIN):
        n = number * chunks * ROWS_PER_CHUNK // AGAIN
        entry = {"event_id": str(uuid.UUID(int=n)), "event_type": "click", "user_id": "somebody"}
        entry |= {"time": (_FIRST + n * timedelta(hours=1)).isoformat()}
        page.append((b"%d-0" % number, [text.encode() for pair in entry.items() for text in pair]))
    return Batch(stream, IdRange(0, AGAIN << 64), page_to_columns(page), layout, EVERY_TIME)


def _load_again(settings: Settings, batch: Batch) -> None:
    with postgres_connection(settings) as connection, connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO spillway.streams (name, baseline) VALUES (%s, 0)", [batch.stream])
        loaded = load_batch(connection, batch, "benchmark", InsertRoute.MERGE)
    if (loaded.inserted, loaded.duplicates) != (0, AGAIN):
        raise Terminal(f"{batch.stream}: expected {AGAIN} duplicates, found {loaded}")


def _compare(settings: Settings, batch: Batch) -> None:
    with postgres_connection(settings) as connection:
        found = compare(connection, batch, repair=False)
    if found.compared != AGAIN or found.discrepancies:
        raise Terminal(f"{batch.stream}: expected {AGAIN} equal rows, found {found.discrepancies[:3]}")


def _check(settings: Settings, layout: RowLayout) -> None:
    one = maintained_table(settings, layout.table)
    with postgres_connection(settings) as connection:
        audit = judge(gather_facts(connection, one, datetime.now(UTC)), dry_run=True).row_audit
    if not audit.checked or audit.missing or audit.rows != audit.inserted:
        raise Terminal(f"{layout.table.regclass}: expected as many rows as in the ledger, found {audit}")


def _dry_run() -> None:
    from flows.maintain import maintain

    maintain(dry_run=True, fail=False)


def main(engine: str | None = None, as_json: bool = False) -> None:
    """Print the processor time of each action for each number of chunks, and its ratio to linear growth."""
    found = measure(engine)
    if as_json:
        print(json.dumps(found))
        return
    titles = [f"{number:,} chunks" for number in CHUNKS]
    grid = Grid(f"seconds of processor time, {found['engine']}", *titles, "÷ linear", f"passed, {CHUNKS[-1]:,}")
    for what, ratio in found["times_linear"].items():
        row = [one for one in found["figures"] if one["what"] == what]
        seconds = (f"{one['processor']:.2f}" for one in row)
        grid.add_row(what, *seconds, f"{ratio:.2f}", f"{row[-1]['passed']:.2f} s")
    console = Console(width=110, highlight=False)
    console.print(grid)
    console.print("within the bar" if found["holds"] else f"OVER THE BAR of {MOST_TIMES_LINEAR} × linear")


if __name__ == "__main__":
    typer.run(main)
