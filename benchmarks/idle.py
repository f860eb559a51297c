"""What a drain costs beyond its entries:  python -m benchmarks.idle

Each run is a process `spillway drain` of a user without a Prefect server. One that finds nothing is counted by the
servers; one that finds a single entry shows the time until its row is committed. Then a process of
`spillway serve --every` ticks without finding anything. Starts its own servers.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import redis
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.serving import cpu_seconds, serving
from infra.errors.exceptions import Terminal
from infra.producers.generate import batches
from infra.producers.send import send
from infra.servers.engine import Engine
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings

STREAM = "bench-idle"
CONNECTIONS = 1  # the most connections of a run to each server
SECONDS = 0.3  # the longest time between the start and the end of the work itself
CPU_SECONDS = 2.0  # the most processor time of the whole process
FIRST_ROW_SECONDS = 1.5  # the longest time from the start of the process to the first committed row
TICK_CPU_SECONDS = 0.15  # the most processor time of a serving process for a tick that finds nothing
TICKS = 60  # at one a second
_COMMAND = [str(Path(sys.executable).parent / "spillway"), "drain", "--stream", STREAM, "--json"]
_SETTLE_SECONDS = 10  # from the start of the serving process; its first ticks import and connect
_GONE_SECONDS = 10  # the longest time until PostgreSQL notices that a client has disconnected


@dataclass(frozen=True)
class Idle:
    """One run: its connections, its commands and statements by name, and the seconds of the flow and the process.

    `cpu_seconds`: the processor time of the process.
    """

    redis_connections: int
    postgres_connections: int
    commands: Mapping[str, int]
    statements: Mapping[str, int]
    flow_seconds: float
    process_seconds: float
    cpu_seconds: float


def measure(engine: str | None = None, runs: int = 5) -> dict[str, Any]:
    """Runs on a drained stream: the most connections, commands and statements of any run, and the median times.

    `holds`: whether the connections and the flow's time are within `CONNECTIONS` and `SECONDS`.
    """
    with throwaway_servers("bench", engine) as (settings, used), tempfile.TemporaryDirectory() as home:
        _load_statement_counter(settings, used)
        environment = _environment(settings, home)
        with (
            redis.Redis.from_url(settings.redis) as client,
            psycopg.connect(settings.database, autocommit=True) as connection,
        ):
            connection.execute("CREATE EXTENSION pg_stat_statements")
            for batch in batches(1_000, seed=1):
                send(client, STREAM, batch.entries)
            if _drain(environment)["read"] != 1_000:
                raise Terminal("the first drain did not read what was sent")
            found = [_idle(client, connection, environment) for _ in range(runs)]
            first = [_first_row(client, connection, environment) for _ in range(runs)]
            ticks = _ticks(settings, connection)
        result = _summary(used.name, found, first) | ticks
        return result | {"holds": result["holds"] and result["tick_cpu_seconds"] <= TICK_CPU_SECONDS}


def _summary(engine: str, found: list[Idle], first: list[float]) -> dict[str, Any]:
    busiest = max(found, key=lambda one: sum(one.commands.values()) + sum(one.statements.values()))
    connections = max(max(one.redis_connections, one.postgres_connections) for one in found)
    seconds = statistics.median(one.flow_seconds for one in found)
    cpu = statistics.median(one.cpu_seconds for one in found)
    return {
        "engine": engine,
        "runs": len(found),
        "redis_connections": max(one.redis_connections for one in found),
        "postgres_connections": max(one.postgres_connections for one in found),
        "redis_commands": dict(busiest.commands),
        "postgres_statements": dict(busiest.statements),
        "flow_seconds": round(seconds, 3),
        "flow_seconds_all": [round(one.flow_seconds, 3) for one in found],
        "process_seconds": round(statistics.median(one.process_seconds for one in found), 2),
        "cpu_seconds": round(cpu, 2),
        "first_row_seconds": round(statistics.median(first), 2),
        "first_row_seconds_all": [round(one, 2) for one in first],
        "holds": connections <= CONNECTIONS and seconds <= SECONDS and cpu <= CPU_SECONDS,
    }


def _ticks(settings: Settings, connection: psycopg.Connection) -> dict[str, Any]:
    """The processor time of a tick: in the serving process, in its session of PostgreSQL, and in Prefect's server.

    PostgreSQL counts the ticks: each looks for idle streams with one statement.
    """
    count = (
        "SELECT coalesce(sum(calls), 0)::int FROM pg_stat_statements WHERE query LIKE '%%settled_entries_added = %%'"
    )
    pid = "SELECT pid FROM pg_stat_activity WHERE application_name = 'spillway serve'"
    with serving(settings, "1s", STREAM) as served:
        time.sleep(_SETTLE_SECONDS)
        row = connection.execute(pid).fetchone()
        pids = [served.pid, *(row or (0,)), served.prefect.pid]
        connection.execute("SELECT pg_stat_statements_reset()")
        before = [cpu_seconds(pid) for pid in pids]
        ticks = 0
        while ticks < TICKS:
            time.sleep(0.5)
            ((ticks,),) = connection.execute(count).fetchall()
        used = [after - cpu for after, cpu in zip(map(cpu_seconds, pids), before, strict=True)]
        if served.runs():
            raise Terminal("a tick that should find nothing made a run")
    names = ("tick_cpu_seconds", "tick_postgres_cpu_seconds", "tick_prefect_cpu_seconds")
    return {name: round(seconds / ticks, 4) for name, seconds in zip(names, used, strict=True)}


def _environment(settings: Settings, home: str) -> dict[str, str]:
    """An environment without the developer's settings, and without a Prefect server."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("SPILLWAY_", "PREFECT_"))}
    servers = {"SPILLWAY_REDIS_URL": settings.redis, "SPILLWAY_DATABASE_URL": settings.database}
    return mine | servers | {"PREFECT_HOME": home}


def _drain(environment: Mapping[str, str]) -> dict[str, Any]:
    said = subprocess.run(_COMMAND, env=environment, stdout=subprocess.PIPE, check=True).stdout
    books: dict[str, Any] = json.loads(said.splitlines()[-1])
    return books


def _idle(client: redis.Redis, connection: psycopg.Connection, environment: Mapping[str, str]) -> Idle:
    sessions = _sessions(connection)
    connection.execute("SELECT pg_stat_statements_reset()")
    before: Any = client.info("stats", "commandstats")
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    books = _drain(environment)
    took, now_used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    after: Any = client.info("stats", "commandstats")
    if books["read"]:
        raise Terminal(f"a run that should find nothing read {books['read']} entries")
    commands = {
        name.removeprefix("cmdstat_"): calls
        for name, stat in after.items()
        if name.startswith("cmdstat_") and (calls := stat["calls"] - before.get(name, {}).get("calls", 0))
    }
    commands["info"] -= 1  # our own
    return Idle(
        after["total_connections_received"] - before["total_connections_received"],
        _sessions(connection) - sessions,
        commands,
        _statements(connection),
        books["seconds"],
        took,
        now_used.ru_utime + now_used.ru_stime - used.ru_utime - used.ru_stime,
    )


def _first_row(client: redis.Redis, connection: psycopg.Connection, environment: Mapping[str, str]) -> float:
    """Seconds from the start of a drain until the row of a new entry is visible."""
    count = "SELECT count(*) FROM events"
    before = connection.execute(count).fetchone()
    for batch in batches(1, seed=uuid4().int >> 96):
        send(client, STREAM, batch.entries)
    began = time.monotonic()
    with subprocess.Popen(_COMMAND, env=environment, stdout=subprocess.DEVNULL) as process:
        while connection.execute(count).fetchone() == before:
            if process.poll() is not None and connection.execute(count).fetchone() == before:
                raise Terminal("a drain of one entry made no row")
            time.sleep(0.005)
        return time.monotonic() - began


def _sessions(connection: psycopg.Connection) -> int:
    """The number of client connections ever made to the database. A backend reports its own when it ends or is asked
    to."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    deadline = time.monotonic() + _GONE_SECONDS
    while connection.execute(others).fetchone() != (0,):
        if time.monotonic() > deadline:
            raise Terminal("a client of the throwaway server does not go away")
        time.sleep(0.01)
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert row is not None  # the connected database exists
    sessions: int = row[0]
    return sessions


def _load_statement_counter(settings: Settings, engine: Engine) -> None:
    """Make the throwaway server count statements, which needs a restart."""
    with psycopg.connect(settings.database, autocommit=True) as connection:
        known = "SELECT 1 FROM pg_available_extensions WHERE name = 'pg_stat_statements'"
        if connection.execute(known).fetchone() is None:
            raise Terminal("PostgreSQL has no pg_stat_statements: install its contrib package")
        connection.execute("ALTER SYSTEM SET shared_preload_libraries = timescaledb, pg_stat_statements")
    engine.restart()


def _statements(connection: psycopg.Connection) -> dict[str, int]:
    """The statements since the last reset, without those of the benchmark."""
    query = """
        SELECT regexp_replace(btrim(query), '\\s+', ' ', 'g'), calls::int FROM pg_stat_statements
         WHERE toplevel AND query !~ 'pg_stat_' ORDER BY 2 DESC, 1"""
    return dict(connection.execute(query).fetchall())


def main(runs: int = 5, engine: str | None = None) -> None:
    """Print the cost of a run with nothing to do."""
    found = measure(engine, runs)
    console = Console(width=110, highlight=False)
    table = Table(f"nothing to drain, {found['runs']} runs, {found['engine']}", "found", "at most")
    for server in ("redis", "postgres"):
        table.add_row(f"connections to {server}", f"{found[f'{server}_connections']}", f"{CONNECTIONS}")
    for what in ("redis_commands", "postgres_statements"):
        table.add_row(what.replace("_", " "), f"{sum(found[what].values())}", "a handful")
    table.add_row("ms in the flow, median", f"{found['flow_seconds'] * 1000:.0f}", f"{SECONDS * 1000:.0f}")
    table.add_row("s of the whole process", f"{found['process_seconds']}", "")
    table.add_row("s of processor time of the whole process", f"{found['cpu_seconds']}", f"{CPU_SECONDS}")
    table.add_row("s of processor time of a tick when serving", f"{found['tick_cpu_seconds']}", f"{TICK_CPU_SECONDS}")
    for server in ("postgres", "prefect"):
        table.add_row(f"the same in {server}", f"{found[f'tick_{server}_cpu_seconds']}", "")
    table.add_row("s until the row of one entry is committed", f"{found['first_row_seconds']}", f"{FIRST_ROW_SECONDS}")
    console.print(table)
    for what in ("redis_commands", "postgres_statements"):
        for name, calls in found[what].items():
            console.print(f"{calls:3} × {name}", markup=False, overflow="ellipsis", no_wrap=True)
    console.print("within the bar" if found["holds"] else "OVER THE BAR")


if __name__ == "__main__":
    typer.run(main)
