"""Every claim about Spillway's speed, measured side by side in one run on real servers: make bench"""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import psycopg
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import busy_streams, chart, claims, idle, latency, memory, planning, scale, tables, throughput
from flows.environment import set_prefect_defaults
from infra.servers.throwaway import throwaway_servers
from infra.settings import PROJECT_ROOT, Settings

RESULTS = PROJECT_ROOT / "benchmarks/results"
console = Console(width=120, highlight=False)


def main(
    events: int = 500_000, rounds: int = 3, engine: str | None = None, out: Path = RESULTS, large: int = memory.LARGE
) -> None:
    """Measure, print, and write `bench.json` and `bench.png` to `out`.

    `events`: generated events of each run. `large`: the size of the backlog for the memory measurement.
    """
    with throwaway_servers("bench", engine) as (settings, used), TemporaryDirectory() as home:
        os.environ |= {"PREFECT_HOME": home, "PREFECT_LOGGING_LEVEL": "ERROR"}  # before the flow imports Prefect
        set_prefect_defaults()
        machine = f"{_machine()}; {used.name}: {_servers(settings)}"
        console.print(machine)
        found = throughput.measure(settings, events, rounds, console.print)
        own = tables.measure(settings, events, rounds, console.print)
    rest: dict[str, Any] = {
        "memory": memory.measure_apart(used.name, large),
        "planning": planning.measure(used.name),
        "idle": idle.measure(used.name),
        "latency": latency.measure(used.name),
        "scale": scale.measure_apart(used.name),
        "busy": busy_streams.measure(used.name),
    }
    claimed = [*claims.of_throughput(found), *claims.of_tables(own), *claims.of_the_rest(**rest)]
    for kind, runs in found.items():
        console.print(throughput.table(kind, runs))
    console.print(tables.table(own))
    console.print(_table(claimed))
    result = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "events": events,
        "rounds": rounds,
        "claims": [{"what": c.what, **asdict(c.found), "bar": c.bar, "at_most": c.at_most} for c in claimed],
        "tables": {name: asdict(runs) for name, runs in own.items()},
        "runs": {kind: {name: [asdict(run) for run in r] for name, r in runs.items()} for kind, runs in found.items()},
        **rest,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.json").write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    chart.draw(found, machine, out / "bench.png")
    console.print(f"written: {out / 'bench.json'} and bench.png; compare two with python -m benchmarks.compare")


def _machine() -> str:
    models = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory_kb = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return (
        f"{os.cpu_count()} cores{f' ({models[0]})' if models else ''}, {int(memory_kb) / 2**20:.0f} GiB,"
        f" Python {platform.python_version()}"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _servers(settings: Settings) -> str:
    query = """
        SELECT current_setting('server_version'), extversion, current_setting('timescaledb.license')
          FROM pg_extension WHERE extname = 'timescaledb'"""
    with psycopg.connect(settings.database) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None  # the schema made the extension
    return f"PostgreSQL {row[0].split()[0]}, TimescaleDB {row[1]} ({row[2]})"


def _table(claimed: list[claims.Claim]) -> Table:
    table = Table("claim", "bar", "found", "least to greatest", "")
    for claim in claimed:
        f = claim.found
        spread = "" if f.low == f.high else f"{f.low:.2f} to {f.high:.2f}"
        bar = f"{'≤' if claim.at_most else '≥'} {claim.bar:g}"
        table.add_row(claim.what, bar, f"{f.median:.2f}", spread, "" if claim.met else "NOT MET")
    return table


if __name__ == "__main__":
    typer.run(main)
