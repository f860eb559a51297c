"""What Prefect's server costs with the shipped prefect.toml:  python -m benchmarks.prefect_cost cpu | year

`cpu`: its processor time next to that of the client, for a drain of a million events in one stream. `year`: the size
of its database after a year of one run a minute, from the sizes after a thousand runs, and after they have become old.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import redis
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.prefect_server import VACUUM_SECONDS, Server, running_server
from benchmarks.processor_time import tree_seconds
from infra.errors.exceptions import Terminal
from infra.producers.generate import batches
from infra.producers.send import send
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings, settings

CPU_RATIO = 0.1  # at most: the server's processor time ÷ the client's
YEAR_MB = 500  # at most: the database after a year

RUN_DAYS, EVENT_DAYS, EVENT_HOURS = 7, 3, 1  # as in prefect.toml
RUNS_AN_HOUR, RUNS_A_DAY = 60, 60 * 24
_LATE_HOURS = 1  # between two passes of the server that deletes
_MB = 1_000_000
_EVENTS_OF_A_RUN = 1_000
_IDLE_SECONDS = 30

console = Console(width=120, highlight=False)
app = typer.Typer()


def _start(server: Server, config: Settings, *arguments: object) -> subprocess.Popen[str]:
    own = {"SPILLWAY_REDIS_URL": config.redis, "SPILLWAY_DATABASE_URL": config.database}
    command = [sys.executable, "-m", "benchmarks.prefect_cost", *map(str, arguments)]
    log = server.log.with_name("client.log").open("a")
    return subprocess.Popen(command, env=server.environment | own, stdout=subprocess.PIPE, stderr=log, text=True)


def _result(process: subprocess.Popen[str], server: Server) -> Any:
    said, _ = process.communicate()
    if process.returncode:
        raise Terminal(server.log.with_name("client.log").read_text()[-2_000:])
    return json.loads(said.splitlines()[-1])


@app.command()
def drain_once(stream: str, pid: int) -> None:
    """Drain a stream in the flow, and print the processor time of this process and of the server (called by `cpu`)."""
    from flows.drain import drain

    drain("no-such-stream*")  # what is imported at the first use is not part of the drain
    time.sleep(_IDLE_SECONDS)  # the server records that run
    server, client, wall = tree_seconds(pid), time.process_time(), time.monotonic()
    totals = drain(stream)
    found = {"client": time.process_time() - client, "server_before": server, "wall_before": wall}
    print(json.dumps({"read": totals["read"], **found}))


@app.command()
def cpu(engine: str | None = None, events: int = 1_000_000, rounds: int = 3) -> None:
    """Print the processor time of the client and of Prefect's server, until it has written everything."""
    table = Table(f"{events:,} events", "client s", "server s", "without idle", "÷ client", "task runs", "wall s")
    with throwaway_servers("bench", engine) as (config, _), running_server() as server:
        for number in range(rounds):
            with redis.Redis.from_url(config.redis) as client:
                send(client, f"cost:{number}", (e for b in batches(events, seed=number) for e in b.entries))
            found = _result(_start(server, config, "drain-once", f"cost:{number}", server.pid), server)
            if found["read"] != events:
                raise Terminal(f"the flow read {found['read']} entries, expected {events}")
            server.settle(server.rows)
            used, now = tree_seconds(server.pid), time.monotonic()
            wall, spent = now - found["wall_before"], used - found["server_before"]
            time.sleep(_IDLE_SECONDS)
            idle = (tree_seconds(server.pid) - used) / (
                time.monotonic() - now
            )  # what it does whether or not one drains
            net = spent - idle * wall
            tasks = server.query("SELECT count(*) FROM task_run WHERE flow_run_id = (SELECT id FROM flow_run"
                                 " ORDER BY start_time DESC LIMIT 1)")  # fmt: skip
            table.add_row(f"{number + 1} (idle: {idle:.3f} s/s)", f"{found['client']:.2f}", f"{spent:.2f}",
                          f"{net:.2f}", f"{net / found['client']:.3f}", str(tasks), f"{wall:.0f}")  # fmt: skip
    console.print(table)
    console.print(f"the bar for the ratio is {CPU_RATIO}; load {os.getloadavg()[0]:.1f}")


@app.command()
def runs(stream: str, number: int) -> None:
    """Runs of a deployment with the states that a worker gives them, in this process (called by `year`)."""
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow
    from prefect.states import Pending

    from flows.deployments import deploy, deployments
    from flows.drain import drain

    found = next(one for one in deployments(settings()) if one.full_name == "drain/scheduled")
    own = replace(found, name=stream, schedule=None, parameters={**found.parameters, "stream": [stream]})
    deploy([own], stream)  # a pool of its own: several processes would create one at once
    with redis.Redis.from_url(settings().redis) as client, get_client(sync_client=True) as prefect:
        deployment = prefect.read_deployment_by_name(own.full_name)
        for run in range(number):
            entries = (e for b in batches(_EVENTS_OF_A_RUN, seed=hash((stream, run)) & 0xFFFFFFFF) for e in b.entries)
            send(client, stream, entries)
            planned = prefect.create_flow_run_from_deployment(deployment.id)
            prefect.set_flow_run_state(planned.id, Pending())
            run_flow(drain, flow_run=prefect.read_flow_run(planned.id), parameters=own.parameters)
    print(json.dumps({"runs": number}))


@app.command()
def year(engine: str | None = None, number: int = 1_000, at_a_time: int = 2) -> None:
    """Print the sizes of the database after the runs, when their events are old, and when they are old themselves."""
    sizes = []
    with throwaway_servers("bench", engine) as (config, _), running_server() as server:
        server.settle(server.rows)
        _run(server, config, at_a_time, at_a_time)  # what the first run brings is not of each run
        sizes.append(server.used())
        for runs_now in (number, number // 4):
            done = _run(server, config, runs_now, at_a_time)
            sizes.append(server.used())
            console.print(f"{done} runs: {server.rows()}, {sizes[-1]:,} bytes")
            for hours in (EVENT_HOURS + 1, EVENT_DAYS * 24, RUN_DAYS * 24):
                server.hours_pass(hours)
                time.sleep(3 * VACUUM_SECONDS)
                server.settle(server.rows)
                sizes.append(server.used())
        rows, file = server.rows(), server.database.stat().st_size
    # The second time, so that pages that are only partly full again do not count as growth.
    console.print(f"used bytes: {sizes}; rows left: {rows}; the file: {file:,}; runs: {number:,} and {done:,}")
    start, full, old_hour, old_days, residue = sizes[:5]
    for_ever = max(sizes[8] - sizes[4], 0) / done
    kinds = (
        (f"runs of {RUN_DAYS} days", old_days - residue, RUN_DAYS * RUNS_A_DAY),
        (f"events of {EVENT_DAYS} days", old_hour - old_days, EVENT_DAYS * RUNS_A_DAY),
        (
            f"events of {EVENT_HOURS} h, deleted once an hour",
            full - old_hour,
            (EVENT_HOURS + _LATE_HOURS) * RUNS_AN_HOUR,
        ),
        ("what is never deleted", for_ever * number, 365 * RUNS_A_DAY),
    )
    table = Table("after a year of one run a minute", "kB a run", "runs", "MB")
    table.add_row("an empty database", "", "", f"{start / _MB:,.1f}")
    total = float(start)
    for name, size, kept in kinds:
        total += size / number * kept
        table.add_row(name, f"{size / number / 1e3:.2f}", f"{kept:,}", f"{size / number * kept / _MB:,.1f}")
    console.print(table)
    console.print(f"{total / _MB:,.0f} MB, at most {YEAR_MB}")


def _run(server: Server, config: Settings, number: int, at_a_time: int) -> int:
    """Make runs, some at a time, each on its own stream and deployment; returns their number."""
    each = number // at_a_time
    clients = [_start(server, config, "runs", f"year-{n}", each) for n in range(at_a_time)]
    done = sum(_result(one, server)["runs"] for one in clients)
    server.settle(server.rows)
    return int(done)


if __name__ == "__main__":
    app()
