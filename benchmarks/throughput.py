"""All contenders of a workload, in turns: python -m benchmarks.throughput"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.alternatives import ALTERNATIVES
from benchmarks.contenders import Workload, cleaned, client_alone, flow_drain, limit, plain_drain, unguarded_drain
from benchmarks.measure import Run, Spread, timed
from benchmarks.workloads import REAL, documents, flat
from infra.errors.exceptions import Terminal
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings

FLAT, DOCUMENTS = "flat events of 200 bytes", "real documents of 1 kB"
COPY_1, COPY_2 = "prepared COPY, 1 connection", "prepared COPY, 2 connections"
DRAIN_1, DRAIN_2 = "Spillway, 1 connection", "Spillway, 2 connections"
CLEANED = "Spillway, 1 connection, pending lists cleaned"
UNGUARDED = "Spillway, 1 connection, not exactly-once"
FLOW = "Spillway, the Prefect flow, 2 connections"
ONE_PERCENT, FEW, ALL = "Spillway, 1 % duplicates", "Spillway, 1 duplicate in 50,000", "Spillway, all duplicates"
CLIENT = "Spillway's client alone"

Runs = dict[str, list[Run]]


@dataclass(frozen=True)
class Contender:
    """The timed work; `prepare` is not timed. `rows`: how many rows the table must have afterwards, if known."""

    workload: Workload
    work: Callable[[], object]
    prepare: Callable[[], object]
    rows: int | None = None


def measure(settings: Settings, events: int, rounds: int, say: Callable[[str], None]) -> dict[str, Runs]:
    """For each workload, the runs of each contender."""
    found = {FLAT: _rounds(_flat_contenders(settings, events), rounds, say)}
    if REAL.exists():
        found[DOCUMENTS] = _rounds(_document_contenders(settings), rounds, say)
    else:
        say(f"the real documents are not here, so they are not measured: {REAL}")
    return found


def _flat_contenders(settings: Settings, events: int) -> dict[str, Contender]:
    fresh = flat(settings, events)
    one_percent, few = flat(settings, events, 0.01), flat(settings, events, 1 / 50_000)

    def drained() -> None:
        fresh.empty()
        plain_drain(fresh, 1)()
        fresh.forget()

    return _common(fresh) | {
        ONE_PERCENT: Contender(one_percent, plain_drain(one_percent, 1), one_percent.empty),
        FEW: Contender(few, plain_drain(few, 1), few.empty),
        ALL: Contender(fresh, plain_drain(fresh, 1), drained, events),
        CLIENT: Contender(fresh, client_alone(fresh), fresh.empty, 0),
    }


def _document_contenders(settings: Settings) -> dict[str, Contender]:
    fresh = documents(settings)
    return _common(fresh) | {CLIENT: Contender(fresh, client_alone(fresh), fresh.empty, 0)}


def _common(fresh: Workload) -> dict[str, Contender]:
    works: Mapping[str, Callable[[], object]] = {
        COPY_1: limit(fresh, 1),
        DRAIN_1: plain_drain(fresh, 1),
        UNGUARDED: unguarded_drain(fresh, 1),
        CLEANED: cleaned(fresh, plain_drain(fresh, 1)),
        COPY_2: limit(fresh, 2),
        DRAIN_2: plain_drain(fresh, 2),
        FLOW: flow_drain(fresh, 2),
        **{name: alternative(fresh) for name, alternative in ALTERNATIVES.items()},
    }
    return {name: Contender(fresh, work, fresh.empty, fresh.events) for name, work in works.items()}


def _rounds(contenders: Mapping[str, Contender], rounds: int, say: Callable[[str], None]) -> Runs:
    runs: Runs = {name: [] for name in contenders}
    for number in range(rounds):
        for name, contender in contenders.items():
            contender.prepare()
            run = timed(contender.workload.events, contender.work)
            rows = contender.workload.count()
            if contender.rows not in (None, rows):
                raise Terminal(f"{name}: {rows} rows in the table, expected {contender.rows}")
            runs[name].append(run)
            say(f"round {number + 1} of {rounds}: {name}: {run.rate:,.0f} events/s")
    return runs


def table(title: str, runs: Runs) -> Table:
    """A table of rates and client CPU."""
    shown = Table(title, "events/s", "least to greatest", "client µs/event")
    for name, found in runs.items():
        rate = Spread.of([run.rate for run in found])
        cpu = Spread.of([run.cpu_us for run in found])
        shown.add_row(name, f"{rate.median:,.0f}", f"{rate.low:,.0f} to {rate.high:,.0f}", f"{cpu.median:.1f}")
    return shown


def main(events: int = 500_000, rounds: int = 3, engine: str | None = None) -> None:
    """Measure throughput only."""
    console = Console(width=110, highlight=False)
    with throwaway_servers("bench", engine) as (settings, _):
        for title, runs in measure(settings, events, rounds, console.print).items():
            console.print(table(title, runs))


if __name__ == "__main__":
    typer.run(main)
