"""A Prefect server with prefect.toml and with Prefect's defaults: python -m benchmarks.prefect_server

Two questions, each on its own server. Does the database stop growing? Days pass in seconds: after the runs of each day,
everything in it is made a day older. And does the server record every task run of a large drain?
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import redis
import typer
from rich.console import Console
from rich.table import Table

from flows.environment import prefect_defaults
from infra.connections.clients import postgres_connection
from infra.producers.generate import batches
from infra.producers.send import send
from infra.servers.ports import free_port
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings
from tests.support.tables import empty_tables

console = Console(width=120, highlight=False)
_STREAM = "bench-prefect"
VACUUM_SECONDS = 3  # between two passes; an hour by default
_QUIET_SECONDS = 6  # without a change: the server has finished writing and deleting
_AGED = {"flow_run": "end_time", "events": "occurred", "event_resources": "occurred"}


@dataclass(frozen=True)
class Server:
    """A Prefect server: the settings of server and clients, its database and its log."""

    environment: dict[str, str]
    database: Path
    log: Path
    pid: int

    def query(self, statement: str) -> int:
        """The first number in the result of a query; 0 for a statement that returns nothing."""
        with closing(sqlite3.connect(self.database, timeout=60)) as connection, connection:
            row = connection.execute(statement).fetchone()
        return int(row[0]) if row else 0

    def settle(self, counted: Callable[[], object]) -> None:
        """Wait until `counted` has not changed for a while."""
        last, since = counted(), time.monotonic()
        while time.monotonic() - since < _QUIET_SECONDS:
            time.sleep(0.5)
            if (now := counted()) != last:
                last, since = now, time.monotonic()

    def rows(self) -> tuple[int, ...]:
        """The rows of the tables that grow with each run."""
        names = (*_AGED, "task_run", "flow_run_state", "task_run_state", "log", "artifact")
        return tuple(self.query(f"SELECT count(*) FROM {name}") for name in names)  # noqa: S608 - names of our own

    def used(self) -> int:
        """The used bytes of its database: deleted rows leave free pages, and the file keeps its size."""
        pages = self.query("PRAGMA page_count") - self.query("PRAGMA freelist_count")
        return pages * self.query("PRAGMA page_size")

    def hours_pass(self, hours: int = 24) -> None:
        """Make everything in the database this many hours older."""
        for table, column in _AGED.items():
            earlier = f"strftime('%Y-%m-%d %H:%M:%f000', {column}, '-{hours} hours')"
            self.query(f"UPDATE {table} SET {column} = {earlier} WHERE {column} IS NOT NULL")  # noqa: S608 - as above


@contextmanager
def running_server(ours: bool = True) -> Iterator[Server]:
    """A Prefect server with the settings of prefect.toml, or with Prefect's own; it and its data are removed."""
    with TemporaryDirectory() as home:
        port = free_port()
        url = f"http://127.0.0.1:{port}/api"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            **(prefect_defaults() if ours else {}),
            "PREFECT_HOME": home,
            "PREFECT_API_URL": url,
            "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": str(VACUUM_SECONDS),
            "PREFECT_LOGGING_TO_API_ENABLED": "true",
        }
        path = Path(home) / "server.log"
        with path.open("wb") as log:
            command = [str(Path(sys.executable).parent / "prefect"), "server", "start", "--port", str(port)]
            process = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=subprocess.STDOUT)
        try:
            _await(f"{url}/health", process)
            yield Server(environment, Path(home) / "prefect.db", path, process.pid)
        finally:
            process.terminate()
            process.wait(timeout=60)


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - our own server
                return
        except OSError:
            time.sleep(0.3)
    raise SystemExit("the Prefect server did not start")


def _drains(server: Server, config: Settings, runs: int, events: int, batch_rows: int) -> None:
    """Run drains in a child process that uses this server."""
    own = {
        "SPILLWAY_REDIS_URL": config.redis,
        "SPILLWAY_DATABASE_URL": config.database,
        "SPILLWAY_BATCH_ROWS": str(batch_rows),
        "PREFECT_LOGGING_LEVEL": "INFO",
    }
    command = [sys.executable, "-m", "benchmarks.prefect_server", "drains", str(runs), str(events)]
    subprocess.run(
        command, env=server.environment | own, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _growth(config: Settings, ours: bool, days: int, runs: int) -> list[tuple[int, int]]:
    """The used bytes at the end of each day, and the size of the file."""
    found = []
    with running_server(ours) as server:
        for _ in range(days):
            _drains(server, config, runs, 1_000, 10_000)
            server.settle(server.rows)
            server.hours_pass()
            time.sleep(2 * VACUUM_SECONDS)
            server.settle(server.rows)
            found.append((server.used(), server.database.stat().st_size))
    return found


def _recorded(config: Settings, ours: bool, loads: int) -> tuple[int, int]:
    """The task runs on the server after a drain with many loads, and how often its log reports a full queue."""
    with running_server(ours) as server:
        _drains(server, config, 1, loads * 100, 100)
        server.settle(lambda: server.query("SELECT count(*) FROM task_run"))
        full = server.log.read_text(errors="replace").count("Subscription queue is full")
        return server.query("SELECT count(*) FROM task_run WHERE name LIKE 'load%'"), full


app = typer.Typer()


@app.command()
def drains(runs: int, events: int) -> None:
    """Send events and drain them, several times (called by `measure`)."""
    from flows.drain import drain
    from infra.settings import settings

    with redis.Redis.from_url(settings().redis) as client:
        for _ in range(runs):
            seed = time.time_ns()
            send(client, _STREAM, (entry for batch in batches(events, seed=seed) for entry in batch.entries))
            drain(_STREAM)


@app.command()
def measure(engine: str | None = None, days: int = 14, runs: int = 20, loads: int = 3_000) -> None:
    """Print the sizes of each day, and the number of recorded task runs."""
    with throwaway_servers("bench", engine) as (config, _):
        table = Table("Prefect's server", "loads", "recorded", "queue is full")
        for name, ours in (("its defaults", False), ("prefect.toml", True)):
            _empty(config)
            recorded, full = _recorded(config, ours, loads)
            table.add_row(name, f"{loads:,}", f"{recorded:,}", f"{full:,} times")
        console.print(table)
        sizes = {}
        for name, ours in (("its defaults", False), ("prefect.toml", True)):
            _empty(config)
            sizes[name] = _growth(config, ours, days, runs)
        table = Table("day", *(f"{name}: {what}, kB" for name in sizes for what in ("used", "file")))
        for day in range(days):
            table.add_row(str(day + 1), *(f"{size / 1e3:,.0f}" for found in sizes.values() for size in found[day]))
        console.print(table)
        for name, found in sizes.items():
            grown = (found[-1][0] - found[days // 2][0]) / (days - 1 - days // 2) / runs
            console.print(f"{name}: {grown / 1e3:.1f} kB more for each run in the second half")


def _empty(config: Settings) -> None:
    with redis.Redis.from_url(config.redis) as client, closing(postgres_connection(config)) as connection:
        client.flushdb()
        empty_tables(connection)
        connection.commit()


if __name__ == "__main__":
    app()
