"""`make demo`: from nothing to events in the hypertable, drained by a Prefect deployment, with the totals."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql
from rich.console import Console

from flows.cli.main import fail
from infra.connections.clients import postgres_connection
from infra.errors.exceptions import SpillwayError, Terminal
from infra.output import print_table
from infra.servers.ports import free_port
from infra.settings import PROJECT_ROOT, settings
from infra.tables.read_table import parse_table_name

if TYPE_CHECKING:
    from prefect.client.schemas.filters import DeploymentFilter

STREAM = "events-demo"
EVENTS = 100_000
_BIN = Path(sys.executable).parent
_START_SECONDS = 90  # a Prefect server creates its database at its first start
_SCHEDULE_SECONDS = 180  # the interval, the worker's 15 s between two polls, and the run itself

# Without a terminal, the width is unknown.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


def main() -> None:
    """Run the demo. Every command is printed before it runs, so that it can be typed by hand."""
    began = time.monotonic()
    os.chdir(PROJECT_ROOT)
    _run("spillway", "up")
    _run("spillway", "generate", "--events", str(EVENTS), "--stream", STREAM, "--seed", str(int(time.time())),
         "--duplicates", "0.01", "--bad", "0.001")  # fmt: skip
    home = settings().state_dir / settings().instance / "prefect-demo"
    # A new Prefect server each time: only the deployments of this run come due.
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    os.environ |= {"PREFECT_HOME": str(home), "PREFECT_LOGGING_LEVEL": "WARNING"}
    with _prefect_server(home / "server.log"):
        _run("spillway", "deploy", quiet=True)
        with _background("prefect", "worker", "start", "--pool", "spillway", log=home / "worker.log"):
            _await_scheduled_run(home / "worker.log")
    _show_results()
    _print_next_steps(time.monotonic() - began)


def _run(*command: str, quiet: bool = False) -> None:
    """Run a command of this environment; with `quiet`, its output is printed only if it fails."""
    console.print(f"\n[bold]$ {' '.join(command)}[/bold]")
    argv = [str(_BIN / command[0]), *command[1:]]
    done = subprocess.run(argv, capture_output=quiet, text=True, check=False)
    if done.returncode == 0:
        return
    if quiet:
        console.print(done.stdout + done.stderr, markup=False)
    raise Terminal(f"demo: {' '.join(command)} failed; see its output above")


def _await_scheduled_run(log: Path) -> None:
    """Wait until a scheduled run has ended. Raises `Terminal` if none ends in time, or if it failed."""
    from prefect.client.orchestration import get_client  # reads the environment when it is imported

    console.print("\nThe schedule starts the drain within a minute. Waiting for it …")
    until = time.monotonic() + _SCHEDULE_SECONDS
    with get_client(sync_client=True) as client:
        while time.monotonic() < until:
            for run in client.read_flow_runs(deployment_filter=_scheduled_drain()):
                # A run that comes due while another one is running is cancelled, as intended.
                if run.auto_scheduled and run.state and run.state.is_final() and not run.state.is_cancelled():
                    if not run.state.is_completed():
                        raise Terminal(
                            f"demo: the scheduled run {run.name} ended as {run.state.name}; the log is {log}"
                        )
                    due = f"{run.expected_start_time:%H:%M:%S}" if run.expected_start_time else "?"
                    console.print(f"The schedule started run [bold]{run.name}[/bold], due {due} UTC: {run.state.name}")
                    return
            time.sleep(1)
    raise Terminal(f"demo: no scheduled run ended within {_SCHEDULE_SECONDS} s; the worker's log is {log}")


def _scheduled_drain() -> DeploymentFilter:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    return DeploymentFilter(name=DeploymentFilterName(any_=["scheduled"]))


@contextmanager
def _background(*command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    console.print(f"\n[bold]$ {' '.join(command)} &[/bold]")
    with log.open("wb") as output:
        process = subprocess.Popen([str(_BIN / command[0]), *command[1:]], stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _prefect_server(log: Path) -> Iterator[None]:
    """A Prefect server for this demo only, on a free port; stopped at the end."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    os.environ["PREFECT_API_URL"] = url
    with _background("prefect", "server", "start", "--port", str(port), log=log) as server:
        until = time.monotonic() + _START_SECONDS
        while not _answers(f"{url}/health"):
            if server.poll() is not None or time.monotonic() > until:
                raise Terminal(f"demo: the Prefect server did not start; its log is {log}")
            time.sleep(0.3)
        yield


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - our own server
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


_TOTALS: LiteralString = """
    SELECT s.name, sum(l.read)::bigint, sum(l.inserted)::bigint, sum(l.duplicates)::bigint,
           sum(l.quarantined)::bigint, s.lost,
           CASE WHEN sum(l.read) = sum(l.inserted + l.duplicates + l.quarantined)
                 AND s.settled_entries_added = s.baseline + sum(l.read) + s.lost THEN 'yes' ELSE 'NO' END
      FROM spillway.streams s JOIN spillway.ledger l ON l.stream = s.id
     GROUP BY s.id ORDER BY s.name"""
_SAMPLE: LiteralString = """
    SELECT time_bucket('1 hour', time) AS hour, count(*), count(DISTINCT user_id),
           mode() WITHIN GROUP (ORDER BY event_type)
      FROM {events} GROUP BY hour ORDER BY hour DESC LIMIT 5"""


def _show_results() -> None:
    with closing(postgres_connection(settings())) as connection:
        console.print("\n[bold]The totals[/bold] (read = inserted + duplicates + quarantined; added = read + lost)")
        names = ["stream", "read", "inserted", "duplicates", "quarantined", "lost", "ok"]
        print_table(names, connection.execute(_TOTALS))
        console.print("\n[bold]A query[/bold]: events per hour, the last five hours")
        sample = sql.SQL(_SAMPLE).format(events=sql.Identifier(*parse_table_name("events")))
        print_table(["hour", "events", "users", "most frequent type"], connection.execute(sample))


def _print_next_steps(seconds: float) -> None:
    console.print(
        f"\nDone in {seconds:.0f} s. Still running: Redis and TimescaleDB (stop them with [bold]spillway down[/bold])."
        " The Prefect server and the worker of the demo are stopped.\n\nNext:\n"
        "  source .venv/bin/activate\n"
        "  spillway psql                                         look at the tables\n"
        f"  spillway generate --events 1000 --stream {STREAM}\n"
        f"  spillway drain --stream {STREAM}                 drain now\n"
        "  spillway serve                                        drain every minute (after: prefect server start)"
    )


if __name__ == "__main__":
    try:
        main()
    except SpillwayError as error:
        fail(error)
