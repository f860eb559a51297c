"""Spillway beside a bare COPY of prepared buffers, in one run:  python -m benchmarks.drain

Real servers of its own; the contenders take turns; medians, and ratios pair by pair.
"""

from __future__ import annotations

import gzip
import os
import platform
from pathlib import Path

import redis
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import Workload, client_alone, limit, plain_drain
from benchmarks.measure import Run, median_rate, ratio, timed
from infra.producers.generate import batches
from infra.producers.send import send
from infra.servers.throwaway import throwaway_servers
from infra.settings import PROJECT_ROOT, Settings

REAL = PROJECT_ROOT.parent / "shared/data/crossref/bench_arrival_2019-08_2019-12.ndjson.gz"
console = Console(width=110, highlight=False)


def main(events: int = 500_000, rounds: int = 3, engine: str | None = None) -> None:
    """Measure flat generated events, and the real documents where they are."""
    with throwaway_servers("bench", engine) as (settings, used):
        console.print(f"{used.name}; {os.cpu_count()} cores; {platform.platform()}")
        _measure(_generated(settings, events), rounds)
        if REAL.exists():
            _measure(_real(settings, REAL), rounds)
        else:
            console.print(f"the real documents are not here, so they are not measured: {REAL}")


def _generated(settings: Settings, events: int) -> Workload:
    with redis.Redis.from_url(settings.redis) as client:
        client.flushdb()
        for batch in batches(events, seed=1):
            send(client, "events-bench", batch.entries)
    return Workload(settings, "events-bench", events)


def _real(settings: Settings, path: Path) -> Workload:
    with redis.Redis.from_url(settings.redis) as client, gzip.open(path) as lines:
        client.flushdb()
        sent = send(client, "crossref-bench", ({b"data": line.rstrip(b"\n")} for line in lines))
    return Workload(settings, "crossref-bench", sent)


def _measure(workload: Workload, rounds: int) -> None:
    contenders = {"drain, 1 connection": plain_drain(workload, 1), "drain, 2 connections": plain_drain(workload, 2)}
    if workload.mapping is None:  # the real documents have duplicates, which a bare COPY cannot take
        contenders |= {"COPY, 1 connection": limit(workload, 1), "COPY, 2 connections": limit(workload, 2)}
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    alone: list[Run] = []
    for _ in range(rounds):
        for name, work in contenders.items():
            workload.empty()
            runs[name].append(timed(workload.events, work))
        workload.empty()
        alone.append(timed(workload.events, client_alone(workload)))
    table = Table(f"{workload.stream}, {workload.events:,} events", "events/s", "client µs/event", "÷ COPY")
    for name, found in runs.items():
        beside = runs.get(name.replace("drain", "COPY"))
        against = " · ".join(f"{x:.2f}" for x in ratio(found, beside)) if beside else ""
        cpu = sorted(run.cpu_us for run in found)[len(found) // 2]
        table.add_row(name, f"{median_rate(found):,.0f}", f"{cpu:.1f}", against)
    cpu = sorted(run.cpu_us for run in alone)[len(alone) // 2]
    table.add_row("read + decode + encode + send alone", f"{median_rate(alone):,.0f}", f"{cpu:.1f}", "")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
