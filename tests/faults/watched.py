"""An hour of production that a real Prometheus watches, then incidents that it has to report: make watched"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, cast

import redis
import typer
from rich.console import Console

import tests.environment  # noqa: F401
from infra.servers.throwaway import throwaway_servers
from tests.faults.incidents import ALERT_SECONDS, INCIDENTS, STREAM, UNREADABLE, Incident, Scene
from tests.support.browser import picture
from tests.support.ports import free_port
from tests.support.prefect_server import running_prefect
from tests.support.programs import BIN
from tests.support.prometheus import QUERIES, Prometheus, filled, running_prometheus

_EVERY = "10s"  # the interval of the drain
_LOOK_SECONDS = 5.0
_QUIET_SECONDS = 240.0  # until an alert has ended after its incident
_ALWAYS = {"SpillwayWatchdog"}
_GRAPHS = (
    "sum by (result) (rate(spillway_events_total[1m]))",
    "spillway_stream_lag_seconds",
    "histogram_quantile(0.9, sum by (le) (rate(spillway_load_duration_seconds_bucket[5m])))",
    'ALERTS{alertstate="firing"}',
)

console = Console(highlight=False, soft_wrap=True)


def main(
    minutes: Annotated[float, typer.Option(min=0.5, help="How long nothing is wrong, and nothing may alert.")] = 60,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 100,
    engine: Annotated[str | None, typer.Option(help="The first that can run here, if not given.")] = None,
    incidents: Annotated[bool, typer.Option(help="Whether incidents follow.")] = True,
    output: Annotated[Path | None, typer.Option(help="A folder for the graphs and the report.")] = None,
) -> None:
    """Exit code 1 if anything alerted in the healthy time, if an incident did not within two minutes, if an alert did
    not end, if a query of the dashboard has no answer, or if an event is missing or doubled at the end."""
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="spillway-watched-")))
        api = stack.enter_context(running_prefect(plans=True))
        settings, used = stack.enter_context(throwaway_servers("watched", engine))
        port = free_port()
        env = os.environ | {
            "PREFECT_API_URL": api,
            "SPILLWAY_REDIS_URL": settings.redis,
            "SPILLWAY_DATABASE_URL": settings.database,
            "SPILLWAY_SCHEDULED_STREAMS": STREAM,
            "SPILLWAY_DRAIN_EVERY": _EVERY,
            "SPILLWAY_METRICS_LISTEN": str(port),
        }
        client = stack.enter_context(redis.Redis.from_url(settings.redis))
        client.config_set("appendonly", "yes")
        scene = Scene(settings.database, client, used, env, folder)
        stack.callback(scene.end_serving)
        stack.enter_context(_producing(scene, rate))
        scene.serve()
        scene.spillway("maintain")
        prometheus = stack.enter_context(running_prometheus(folder, port, as_shipped=True))
        console.print(f"{used.name}: {minutes:g} minutes, {rate:g} events/s, a drain every {_EVERY}")
        wrong = _healthy(prometheus, minutes * 60)
        wrong += [f"no answer: {query}" for query in QUERIES if not prometheus.query(filled(query))]
        console.print(f"{len(QUERIES)} queries of the dashboard were asked")
        if output is not None:
            _record(scene, prometheus, output, minutes)
        for incident in INCIDENTS if incidents else ():
            wrong += _suffer(scene, prometheus, incident)
        if output is not None and incidents:
            _draw(prometheus, output / "incidents.png", minutes=30)
        wrong += _balance(scene)
    for one in wrong:
        console.print(f"[red]BAD[/red] {one}", markup=True)
    console.print("[red]not well[/red]" if wrong else "[green]all is well[/green]")
    raise typer.Exit(1 if wrong else 0)


@contextmanager
def _producing(scene: Scene, rate: float) -> Iterator[None]:
    """A producer, as a process, that starts again if it ends: Redis may be away."""
    command = [BIN / "spillway", "generate", "--events", "100000000", "--stream", STREAM, "--rate", f"{rate:g}"]
    script = 'n=0; while true; do n=$((n+1)); "$@" --duplicates 0.02 --seed "$n"; sleep 1; done'
    with (scene.folder / "producer.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", script, "producer", *map(str, command)],
            env=scene.env, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    scene.producer = process
    try:
        yield
    finally:
        scene.end_producer()


def _healthy(prometheus: Prometheus, seconds: float) -> list[str]:
    """Look at the alerts until the time is over. The first scrapes may be awaited."""
    prometheus.wait_for(lambda: bool(prometheus.query("spillway_build_info")), 60)
    until = time.monotonic() + seconds
    found: set[str] = set()
    looks = 0
    while time.monotonic() < until:
        found |= prometheus.firing() - _ALWAYS
        looks += 1
        time.sleep(_LOOK_SECONDS)
    console.print(f"healthy: {looks:,} looks at the alerts, fired: {', '.join(sorted(found)) or 'none'}")
    (up,) = prometheus.query(f"avg_over_time(up[{seconds:.0f}s])")
    console.print(f"scrapes that succeeded: {float(up['value'][1]):.1%}")
    return [f"{name} fired while all was well" for name in sorted(found)]


def _suffer(scene: Scene, prometheus: Prometheus, incident: Incident) -> list[str]:
    """Let an incident happen, and wait for its alerts and for their end."""
    before = prometheus.firing()
    with incident.happens(scene):
        began = time.monotonic()
        missing = set(incident.alerts)
        while missing and time.monotonic() - began < ALERT_SECONDS:
            time.sleep(1)
            for name in missing & (prometheus.firing() - before):
                console.print(f"{incident.name}: {name} after {time.monotonic() - began:.0f} s")
                missing.discard(name)
    wrong = [f"{incident.name}: {name} did not fire in {ALERT_SECONDS:.0f} s" for name in sorted(missing)]
    if incident.ends:
        began = time.monotonic()
        while (left := prometheus.firing() - before) and time.monotonic() - began < _QUIET_SECONDS:
            time.sleep(1)
        console.print(f"{incident.name}: over after {time.monotonic() - began:.0f} s")
        wrong += [f"{incident.name}: {name} still fires after it was repaired" for name in sorted(left)]
    return wrong


def _record(scene: Scene, prometheus: Prometheus, output: Path, minutes: float) -> None:
    """The graphs of Prometheus and the report of the same time, to look at."""
    _draw(prometheus, output / "healthy.png", minutes)
    since = f"{max(1, round(minutes))}m"
    report = output / "report.html"
    scene.spillway("report", "--since", since, "--output", str(report))
    picture(report.as_uri(), output / "report.png", 1400, 3200)
    console.print(f"see {output}")


def _draw(prometheus: Prometheus, path: Path, minutes: float) -> None:
    picture(prometheus.graph(_GRAPHS, f"{max(1, round(minutes))}m"), path, 1400, 2600)


def _balance(scene: Scene) -> list[str]:
    """Drain the rest. Every event that is in Redis, and may become a row, is in the table, once."""
    scene.end_producer()
    scene.end_serving()
    scene.spillway("drain", "--stream", STREAM)
    sent: set[uuid.UUID] = set()
    first = "-"
    while page := cast("list[tuple[bytes, dict[bytes, bytes]]]", scene.client.xrange(STREAM, first, "+", count=10_000)):
        readable = [fields for _, fields in page if fields[b"time"] != UNREADABLE.encode()]
        sent |= {uuid.UUID(fields[b"event_id"].decode()) for fields in readable}
        first = f"({page[-1][0].decode()}"
    with scene.sql() as connection:
        rows: list[uuid.UUID] = [row[0] for row in connection.execute("SELECT event_id FROM events")]
    missing = sent - set(rows)
    console.print(f"{len(sent):,} events in Redis, {len(rows):,} rows, {len(missing)} missing")
    doubled = len(rows) - len(set(rows))
    strange = set(rows) - sent
    return [f"{count} events {what}" for count, what in (
        (len(missing), "missing"), (doubled, "doubled"), (len(strange), "that nobody sent"),
    ) if count]  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
