"""How the cost of a drain grows with the number of streams and with the ledger:  python -m benchmarks.scale

Processor time of the client, Prefect's API, PostgreSQL and Redis: per stream that has nothing new, and for the plan and
the settlement of a stream with one new entry. The streams are copies of one that was drained. Starts its own servers;
needs Linux, whose /proc counts the time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any, LiteralString

import psycopg
import redis
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.processor_time import ServerClocks, tree_seconds
from flows.environment import set_prefect_defaults
from infra.connections.clients import redis_client
from infra.errors.exceptions import Terminal
from infra.producers.generate import batches
from infra.producers.send import send
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings
from infra.settings import settings as current_settings
from infra.tables.read_table import default_table_name
from tasks.ledger.plan import make_plan
from tasks.ledger.settle import settle

STREAMS = (10, 1_000, 10_000)
PER_STREAM_MS = 0.2  # at most: from 10 to the most streams
LEDGERS = ((10, 100), (300, 1_000))  # streams, and ranges of each
LEDGER_RATIO = 2.0  # at most: a plan and a settlement in the large one ÷ in the small one
_SETTLEMENTS = 300
_FIRST = "idle:0"
_COPY_ROWS: tuple[LiteralString, ...] = (
    """
    INSERT INTO spillway.streams (name, baseline, settled_id, settled_entries_added, settled_hash, settled_at, drained,
                                  read, inserted, loaded_at, "table")
    SELECT n, baseline, settled_id, settled_entries_added, settled_hash, settled_at, drained, read, inserted, loaded_at,
           "table"
      FROM spillway.streams, unnest(%(names)s::text[]) AS n WHERE name = %(first)s""",
    """
    INSERT INTO spillway.ledger (stream, ids, read, rows, inserted, bytes, min_time, max_time, loaded_by)
    SELECT s.id, l.ids, l.read, l.rows, l.inserted, l.bytes, l.min_time, l.max_time, 'a copy'
      FROM spillway.ledger AS l, spillway.streams AS s WHERE s.name = ANY(%(names)s)
       AND l.stream = (SELECT id FROM spillway.streams WHERE name = %(first)s)""",
)
# Ranges of the last hours, which are not merged yet. The id of an entry is its milliseconds.
_RANGES: tuple[LiteralString, ...] = (
    "TRUNCATE spillway.streams, spillway.ledger CASCADE",
    """INSERT INTO spillway.streams (name, baseline, settled_id, settled_entries_added, drained, read, inserted,
                                     "table")
    SELECT 'ranges:' || n, 0, %(ranges)s * 18446744073709551616 - 1, %(ranges)s,
           nummultirange(numrange(0, %(ranges)s * 18446744073709551616)), %(ranges)s, %(ranges)s, %(table)s
      FROM generate_series(0, %(streams)s - 1) AS n""",
    """INSERT INTO spillway.ledger (stream, ids, read, rows, inserted, loaded_by)
    SELECT id, numrange(i * 18446744073709551616, (i + 1) * 18446744073709551616), 1, 1, 1, 'benchmark'
      FROM spillway.streams, generate_series(0, %(ranges)s - 1) AS i""",
    "VACUUM ANALYZE spillway.streams, spillway.ledger",
)
# What a load leaves behind, without its rows.
_LOADED: tuple[LiteralString, ...] = (
    """INSERT INTO spillway.ledger (stream, ids, read, rows, inserted, loaded_by)
    SELECT id, numrange(%(start)s, %(stop)s), 1, 1, 1, 'benchmark' FROM spillway.streams WHERE name = %(stream)s""",
    """UPDATE spillway.streams SET read = read + 1, inserted = inserted + 1,
           drained = drained + nummultirange(numrange(%(start)s, %(stop)s)) WHERE name = %(stream)s""",
)


@dataclass(frozen=True)
class Seconds:
    """Processor time of one drain."""

    client: float
    prefect: float
    postgres: float
    redis: float

    @property
    def total(self) -> float:
        return self.client + self.prefect + self.postgres + self.redis


class Clocks:
    """The processor time that the four have used so far. Prefect's API is a child process that the flow has started."""

    def __init__(self, settings: Settings) -> None:
        self._servers = ServerClocks(settings)

    def now(self) -> Seconds:
        servers = self._servers.now()
        client = sum(os.times()[:2])
        return Seconds(client, tree_seconds(os.getpid()) - client, servers.postgres, servers.redis)


def measure_apart(engine: str | None) -> dict[str, Any]:
    """Run `measure` in a process of its own, whose Prefect has a home of its own and whose children are its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--as-json"]
    said = subprocess.run([*command, *(["--engine", engine] if engine else [])], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return found


def measure(engine: str | None = None, streams: Sequence[int] = STREAMS, repeats: int = 5) -> dict[str, Any]:
    """The median processor time of a drain for each number of idle streams, and its growth in ms per stream."""
    with throwaway_servers("bench", engine) as (settings, used), TemporaryDirectory() as home:
        os.environ |= {
            "PREFECT_HOME": home, "PREFECT_LOGGING_LEVEL": "ERROR", "SPILLWAY_REDIS_URL": settings.redis,
            "SPILLWAY_DATABASE_URL": settings.database,
        }  # fmt: skip
        set_prefect_defaults()
        current_settings.cache_clear()
        clocks = Clocks(settings)
        found = {}
        for number in streams:
            _fill(settings, number)
            found[number] = _drains(clocks, repeats)
        ledgers = [_settlements(settings, clocks, *size) for size in LEDGERS]
    least, most = min(streams), max(streams)
    growth = (found[most].total - found[least].total) / (most - least) * 1e3
    return {
        "engine": used.name,
        "seconds": {number: vars(one) | {"total": one.total} for number, one in found.items()},
        "ms_per_idle_stream": round(growth, 3),
        "ms_per_settlement": [round(ms, 2) for ms in ledgers],
        "settlement_ratio": round(ledgers[-1] / ledgers[0], 2),
        "holds": growth <= PER_STREAM_MS and ledgers[-1] <= LEDGER_RATIO * ledgers[0],
    }


def _fill(settings: Settings, number: int) -> None:
    """Add idle streams until there are `number`."""
    from flows.drain import drain

    with (
        redis.Redis.from_url(settings.redis) as client,
        psycopg.connect(settings.database, autocommit=True) as connection,
    ):
        if not client.exists(_FIRST):
            for batch in batches(1, seed=1):
                send(client, _FIRST, batch.entries)
            drain(_FIRST)
        names = [name for n in range(number) if not client.exists(name := f"idle:{n}")]
        dump: Any = client.dump(_FIRST)
        with client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.restore(name, 0, dump)
            pipeline.execute()
        for statement in _COPY_ROWS:
            connection.execute(statement, {"names": names, "first": _FIRST})
        connection.execute("VACUUM ANALYZE spillway.streams, spillway.ledger")


def _drains(clocks: Clocks, repeats: int) -> Seconds:
    from flows.drain import drain

    runs = []
    for _ in range(repeats + 1):
        before = clocks.now()
        if read := drain("idle:*")["read"]:
            raise Terminal(f"a run that should find nothing read {read} entries")
        after = clocks.now()
        runs.append([getattr(after, name) - getattr(before, name) for name in vars(before)])
    return Seconds(*(statistics.median(figures) for figures in zip(*runs[1:], strict=True)))  # the first one warms up


def _settlements(settings: Settings, clocks: Clocks, streams: int, ranges: int) -> float:
    """The processor time in ms of a plan, the ledger's part of a load, and a settlement of one of so many streams."""
    values: dict[str, Any] = {"streams": streams, "ranges": ranges, "table": default_table_name()}
    with redis_client(settings) as client, psycopg.connect(settings.database, autocommit=True) as connection:
        client.flushdb()
        for statement in _RANGES:
            connection.execute(statement, values if "%" in statement else None)
        for number in range(streams):
            stream, last = f"ranges:{number}", f"{ranges - 1}-{2**64 - 1}"
            client.execute_command("XADD", stream, last, "a", "b")
            client.execute_command("XSETID", stream, last, "ENTRIESADDED", ranges)
        before = clocks.now()
        for number in range(_SETTLEMENTS):
            stream = f"ranges:{number % streams}"
            client.execute_command("XADD", stream, f"{ranges + number}-0", "a", "b")
            plan = make_plan(client, connection, stream)
            for gap in plan.gaps:
                for statement in _LOADED:
                    connection.execute(statement, {"start": gap.start, "stop": gap.stop, "stream": stream})
            if settle(client, connection, plan).lag:
                raise Terminal(f"{stream} was not settled")
        return (clocks.now().total - before.total) / _SETTLEMENTS * 1e3


def main(engine: str | None = None, as_json: bool = False) -> None:
    """Print the processor time of a drain that finds nothing, and of a settlement in a small and in a large ledger."""
    found = measure(engine)
    if as_json:
        print(json.dumps(found))
        return
    table = Table(f"idle streams, {found['engine']}", "client ms", "Prefect ms", "PostgreSQL ms", "Redis ms", "all ms")
    for number, seconds in found["seconds"].items():
        table.add_row(f"{number:,}", *(f"{seconds[name] * 1e3:,.0f}" for name in seconds))
    console = Console(width=110, highlight=False)
    console.print(table)
    console.print(f"{found['ms_per_idle_stream']} ms per idle stream, at most {PER_STREAM_MS}")
    for (number, ranges), ms in zip(LEDGERS, found["ms_per_settlement"], strict=True):
        console.print(f"{number} streams of {ranges:,} ranges: {ms} ms for a plan and a settlement")
    console.print(f"{found['settlement_ratio']} times as much in the larger ledger, at most {LEDGER_RATIO}")
    console.print("within the bar" if found["holds"] else "OVER THE BAR")


if __name__ == "__main__":
    typer.run(main)
