"""How long other clients of Redis wait while Spillway reads: python -m benchmarks.latency

Two views, each in a quiet phase, during a read by Spillway and during a read of large pages. The round trips of a probe
in its own process: on few cores they show the scheduler as much as Redis. And Redis's own time for each XRANGE
(SLOWLOG), during which it serves no other client. Starts its own servers.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import redis
import typer
from redis.connection import parse_url
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import Workload, plain_drain
from benchmarks.phase import Phase
from infra.connections.clients import Clients
from infra.producers.broken import Entry
from infra.producers.generate import as_document, batches
from infra.producers.send import send
from infra.servers.throwaway import throwaway_servers
from infra.settings import PROJECT_ROOT, Settings

REAL = PROJECT_ROOT.parent / "shared/data/crossref/bench_arrival_2019-08_2019-12.ndjson.gz"
HOLD_SECONDS = 0.005  # the longest time that a page may block Redis
FLAT, DOCUMENTS = "flat, 200 bytes", "documents, 1 kB"
_FLAT_OUT = "reader alone"
_NAIVE_PAGE = 50_000
_DOCUMENT_BYTES = 1_000


def measure(engine: str | None = None, seconds: float = 4, events: int = 200_000) -> dict[str, Any]:
    """`Phase.summary` of each phase, for flat events and documents. Phases last at least `seconds`.

    `longest_page_ms` belongs to the reader alone at full speed, which requests the same pages many times. `holds`:
    whether it is within `HOLD_SECONDS`.
    """
    with throwaway_servers("bench", engine) as (settings, used), redis.Redis.from_url(settings.redis) as client:
        client.config_set("slowlog-max-len", 2_000_000)
        kinds = {
            FLAT: _measure(client, settings, "bench-flat", _flat(events), seconds),
            DOCUMENTS: _measure(client, settings, "crossref-bench", _documents(events // 2), seconds),
        }
        longest = max(phases[_FLAT_OUT]["page_longest_ms"] for phases in kinds.values())
        return {"engine": used.name, **kinds, "longest_page_ms": longest, "holds": longest <= HOLD_SECONDS * 1e3}


def _measure(
    client: redis.Redis, settings: Settings, stream: str, entries: Iterable[Entry], seconds: float
) -> dict[str, dict[str, float | int]]:
    client.flushdb()
    client.config_set("slowlog-log-slower-than", -1)
    workload = Workload(settings, stream, send(client, stream, entries))
    client.config_set("slowlog-log-slower-than", 0)
    return {name: phase.summary(HOLD_SECONDS) for name, phase in _phases(client, workload, seconds)}


def _phases(client: redis.Redis, workload: Workload, seconds: float) -> Iterator[tuple[str, Phase]]:
    drain = plain_drain(workload, 2)

    def drain_anew() -> None:
        workload.empty()
        drain()

    work: dict[str, Callable[[], None]] = {
        "quiet": lambda: time.sleep(seconds),
        "drain": drain_anew,
        _FLAT_OUT: lambda: _read_all(workload),
        f"COUNT {_NAIVE_PAGE:,}": lambda: _read_naively(workload),
    }
    for name, once in work.items():
        workload.empty()
        client.config_resetstat()
        client.slowlog_reset()
        with _probing(workload.settings) as times:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                once()
        stats: Any = client.info("commandstats")
        mean = stats.get("cmdstat_xrange", {}).get("usec_per_call", 0) / 1e6
        yield name, Phase(np.frombuffer(b"".join(times)), _pages(client), mean)


def _pages(client: redis.Redis) -> dict[bytes, list[float]]:
    """The seconds of each XRANGE in the slow log, by its arguments."""
    pages: dict[bytes, list[float]] = {}
    for one in client.slowlog_get(-1):
        if one["command"].startswith(b"XRANGE"):
            pages.setdefault(one["command"], []).append(one["duration"] / 1e6)
    return pages


@contextmanager
def _probing(settings: Settings) -> Iterator[list[bytes]]:
    """Run a probe during the block. Afterwards the list holds its output."""
    at = parse_url(settings.redis)
    command = [sys.executable, "-m", "benchmarks.probe", at["host"], str(at["port"])]
    probe = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT_ROOT)
    assert probe.stdout is not None
    assert probe.stdout.readline() == b"ready\n"
    written: list[bytes] = []
    try:
        yield written
    finally:
        written.append(probe.communicate()[0])
    if probe.returncode:
        raise SystemExit("the probe failed")


def _read_all(workload: Workload) -> None:
    """Read, decode and encode what a drain reads, without loading it: as fast as Spillway can request it."""
    with Clients(workload.settings) as clients, clients.postgres() as connection:
        reader = workload.reader(clients.redis, connection)
        while reader.read() is not None:
            pass


def _read_naively(workload: Workload) -> None:
    with redis.Redis.from_url(workload.settings.redis) as client:
        client.set_response_callback("XRANGE", lambda reply, **_: reply)
        start = "-"
        while page := client.execute_command("XRANGE", workload.stream, start, "+", "COUNT", _NAIVE_PAGE):
            start = f"({page[-1][0].decode()}"


def _flat(events: int) -> Iterator[Entry]:
    for batch in batches(events, seed=1):
        yield from batch.entries


def _documents(events: int) -> Iterable[Entry]:
    """Real documents of 1 kB on average, if they are there; otherwise generated ones of that size."""
    if REAL.exists():
        with gzip.open(REAL) as lines:
            yield from ({b"data": line.rstrip(b"\n")} for line in islice(lines, events))
        return
    for entry in _flat(events):
        document = as_document(entry)[b"data"]
        padding = b"x" * max(0, _DOCUMENT_BYTES - len(document))
        yield {b"data": document[:-1] + b',"padding":"' + padding + b'"}'}


def main(seconds: float = 4, events: int = 200_000, engine: str | None = None) -> None:
    """Print both views."""
    found = measure(engine, seconds, events)
    console = Console(width=120, highlight=False)
    console.print(f"{found['engine']}; {os.cpu_count()} cores; milliseconds")
    shown = [f"ping_{of}_ms" for of in ("median", "p99", "p99.9", "max")]
    shown += ["pages", *(f"page_{of}_ms" for of in ("mean", "p99", "max", "longest"))]
    for kind in (FLAT, DOCUMENTS):
        table = Table(kind, *(name.removesuffix("_ms").replace("_", " ") for name in shown))
        for phase, figures in found[kind].items():
            table.add_row(phase, *(str(figures.get(name, "")) for name in shown))
        console.print(table)
    verdict = "holds" if found["holds"] else "DOES NOT HOLD"
    longest = found["longest_page_ms"]
    console.print(f"a page of ours holds Redis for {HOLD_SECONDS * 1e3:.0f} ms at most: {longest} ms, {verdict}")


if __name__ == "__main__":
    typer.run(main)
