"""A stream of ten million entries, and a ledger of a million ranges:  python -m benchmarks.large stream | ledger

Seconds of wall time, processor time of the client, Redis and PostgreSQL, and the peak memory of the client and of its
session in the database. Starts its own servers. Needs Linux.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import LiteralString
from unittest.mock import patch

import psycopg
import redis
import typer
from rich.console import Console
from rich.table import Table

import tasks.ledger.merge_ranges as merging
from benchmarks.processor_time import ServerClocks
from flows.cli.stream_status import stream_statuses
from infra.connections.clients import redis_client
from infra.errors.exceptions import Terminal
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings
from infra.tables.read_table import default_table_name
from tasks.ledger.plan import make_plan
from tasks.ledger.settle import settle
from tasks.ledger.stream_progress import refresh_progress
from tasks.metrics.ledger_figures import read_ledger_figures
from tasks.reconcile.balance import check_balance

_MB = 1_000_000
_STREAM = "readings"
_TABLE: LiteralString = "CREATE TABLE readings (time timestamptz NOT NULL, value bigint NOT NULL)"
_MAPPING = """
[streams.readings]
table = "readings"
[streams.readings.columns]
time = {key = "t", unit = "ms"}
value = "v"
"""
# Entries of two short fields, one a millisecond, made in Redis: sending them would take longer than draining them.
_ADD = """
    for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
        local ms = string.format('%.0f', ARGV[3] + i)
        redis.call('XADD', KEYS[1], ms .. '-0', 't', ms, 'v', i)
    end"""
_FIRST_MS = 1_760_000_000_000
_AT_ONCE = 10_000  # entries of one script
_FILL: LiteralString = """
    INSERT INTO spillway.ledger (stream, ids, read, rows, inserted, loaded_by, loaded_at)
    SELECT id, numrange(i * 18446744073709551616, (i + 1) * 18446744073709551616), 5, 5, 5, 'benchmark',
           now() - %(age)s::interval
      FROM spillway.streams, generate_series(0, %(ranges)s - 1) AS i"""
# The index is made afterwards: one range after the other takes 0.2 ms.
_CONSTRAINT: LiteralString = """
    SELECT conname, pg_get_constraintdef(c.oid), s.id FROM pg_constraint AS c, spillway.streams AS s
     WHERE conrelid = 'spillway.ledger'::regclass AND contype = 'x'"""

console = Console(width=120, highlight=False)
app = typer.Typer()


@app.command()
def stream(engine: str | None = None, entries: int = 10_000_000) -> None:
    """Drain a stream of small entries into a table without indexes, with `spillway drain`."""
    with throwaway_servers("bench", engine) as (config, used), TemporaryDirectory() as folder:
        with redis.Redis.from_url(config.redis) as client:
            for first in range(0, entries, _AT_ONCE):
                client.eval(_ADD, 1, _STREAM, first, min(entries, first + _AT_ONCE) - 1, _FIRST_MS)
            size = client.memory_usage(_STREAM, samples=0)
        with psycopg.connect(config.database, autocommit=True) as connection:
            connection.execute(_TABLE)
        (Path(folder) / "spillway.toml").write_text(_MAPPING)
        _drain(config, used.name, Path(folder), entries, size)


def _drain(config: Settings, engine: str, folder: Path, entries: int, size: int) -> None:
    environment = os.environ | {
        "SPILLWAY_REDIS_URL": config.redis, "SPILLWAY_DATABASE_URL": config.database, "PREFECT_API_URL": "",
        "SPILLWAY_MAPPINGS": str(folder / "spillway.toml"),
    }  # fmt: skip
    clocks = ServerClocks(config)
    before, began = clocks.now(), time.perf_counter()
    command = [str(Path(sys.executable).parent / "spillway"), "drain", "--stream", _STREAM, "--json"]
    drain = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert drain.stdout is not None
    said = drain.stdout.read()
    _, status, usage = os.wait4(drain.pid, 0)
    drain.returncode = os.waitstatus_to_exitcode(status)
    wall, spent = time.perf_counter() - began, clocks.now() - before
    with psycopg.connect(config.database) as connection:
        found = connection.execute("SELECT count(*), sum(value), count(DISTINCT time) FROM readings").fetchone()
        ranges = connection.execute("SELECT count(*) FROM spillway.ledger").fetchone()
    if found != (entries, entries * (entries - 1) // 2, entries):
        raise Terminal(f"the table has {found}, expected {entries} rows, one of each; the drain said {said!r}")
    assert ranges is not None
    cpu = usage.ru_utime + usage.ru_stime
    console.print(
        f"{entries:,} entries ({size / _MB:,.0f} MB in Redis, {engine}): {wall:.0f} s, {ranges[0]} ranges; processor"
        f" time: client {cpu:.1f} s ({cpu / entries * 1e6:.2f} µs each), Redis {spent.redis:.1f} s,"
        f" PostgreSQL {spent.postgres:.1f} s; peak of the client {usage.ru_maxrss * 1024 / _MB:.0f} MB;"
        f" {json.loads(said.splitlines()[-1])['events_per_second']:,} events/s; load {os.getloadavg()[0]:.1f}"
    )


@app.command()
def ledger(engine: str | None = None, ranges: int = 1_000_000) -> None:
    """Plan, settle, reconcile, status and merge with many ranges."""
    with throwaway_servers("bench", engine) as (config, used):
        console.print(f"{ranges:,} ranges, {used.name}; load {os.getloadavg()[0]:.1f}")
        table = Table("what", "wall ms", "client ms", "PostgreSQL ms", "client's peak, MB", "session's peak, MB")
        for name, work in _works(config, ranges):
            table.add_row(name, *(cost := _cost(config, work)))
            console.print(f"{name}: {', '.join(cost)}")  # the whole takes minutes
        console.print(table)


Work = Callable[[redis.Redis, psycopg.Connection], object]


def _works(config: Settings, ranges: int) -> Iterator[tuple[str, Work]]:
    """The works by name, in an order in which each finds what it needs. The ledger is filled before the first."""
    name = "long"
    last = f"{ranges - 1}-{2**64 - 1}"
    with redis_client(config) as client, psycopg.connect(config.database, autocommit=True) as connection:
        client.execute_command("XADD", name, last, "a", "b")
        client.execute_command("XSETID", name, last, "ENTRIESADDED", 5 * ranges)
        connection.execute(
            'INSERT INTO spillway.streams (name, baseline, "table") VALUES (%s, 0, %s)', [name, default_table_name()]
        )
        constraint, definition, stream_id = connection.execute(_CONSTRAINT).fetchone() or ("", "", 0)
        connection.execute(f"ALTER TABLE spillway.ledger DROP CONSTRAINT {constraint}".encode())
        connection.execute(_FILL, {"age": "2 days", "ranges": ranges})
        connection.execute(f"ALTER TABLE spillway.ledger ADD CONSTRAINT {constraint} {definition}".encode())
        connection.execute("VACUUM ANALYZE spillway.streams, spillway.ledger")
    yield "progress again (spillway schema)", lambda _, connection: refresh_progress(connection, stream_id)
    yield "plan", lambda client, connection: make_plan(client, connection, name)
    yield "status", lambda client, connection: stream_statuses(client, read_ledger_figures(connection))
    yield "reconcile", _reconcile(name, ranges)
    yield (
        "plan and settle, no range old enough to merge",
        lambda client, connection: _settle(client, connection, name, "3 days"),
    )
    yield "plan and settle, all ranges merged", lambda client, connection: _settle(client, connection, name, "1 day")
    yield "vacuum", lambda _, connection: connection.execute("VACUUM spillway.ledger")
    yield "reconcile, merged", _reconcile(name, ranges)
    yield "plan and settle, merged", lambda client, connection: _settle(client, connection, name, "1 day")


def _settle(client: redis.Redis, connection: psycopg.Connection, name: str, merge_after: str) -> None:
    """Plan, and settle as after a drain; ranges older than `merge_after` are merged."""
    with patch.object(merging, "_AFTER", merge_after):
        settle(client, connection, make_plan(client, connection, name))


def _reconcile(name: str, ranges: int) -> Work:
    def reconcile(client: redis.Redis, connection: psycopg.Connection) -> None:
        totals, findings = check_balance(client, connection, name)
        if totals.read != 5 * ranges or findings:
            raise Terminal(f"{totals}, {findings}")

    return reconcile


def _cost(config: Settings, work: Work) -> list[str]:
    """Wall time and processor time, on connections of its own, and the peaks of memory up to now."""
    with redis_client(config) as client, psycopg.connect(config.database, autocommit=True) as connection:
        clocks = ServerClocks(config)
        servers, wall, cpu = clocks.now(), time.perf_counter(), time.process_time()
        work(client, connection)
        figures = [time.perf_counter() - wall, time.process_time() - cpu, (clocks.now() - servers).postgres]
        peaks = [_peak(os.getpid()), _peak(connection.info.backend_pid)]
    return [f"{seconds * 1e3:,.0f}" for seconds in figures] + [f"{size:,.0f}" for size in peaks]


def _peak(pid: int) -> float:
    """The peak memory of a process in MB; of a session with the shared buffers that it has touched."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / _MB


if __name__ == "__main__":
    app()
