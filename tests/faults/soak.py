"""An hour of production: a producer at a steady rate, a drain every few seconds, and faults: make soak"""

from __future__ import annotations

import random
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Annotated

import psycopg
import typer
from rich.console import Console

import tests.environment  # noqa: F401
from infra.servers.throwaway import throwaway_servers
from tests.faults.campaign.fault import Fault
from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.kinds import KINDS
from tests.faults.campaign.produce import endless
from tests.faults.campaign.run_fault import wrong_texts
from tests.faults.campaign.testbed import DELAYS, FaultTestbed, running_testbed
from tests.faults.campaign.verdict import judge
from tests.support.prefect_server import running_prefect
from tests.support.processes import Drain, Harness, Outcome

_TICK_SECONDS = 0.1
_DRAIN_EVERY_SECONDS = 3.0
_MOST_DRAINS = 3  # at once, so that drains which wait for a server do not pile up
_DRAIN_LIMIT_SECONDS = 120
_FAULT_EVERY_SECONDS = (5.0, 25.0)
_SAMPLE_EVERY_SECONDS = 1.0
_REPORT_EVERY_SECONDS = 30.0
# The greatest lag, in seconds of production: a fault of 6 s, the retries after it, and the drain that catches up
_LAG_SECONDS = 60
# Faults that need the disk or the drains for themselves.
_NOT_HERE = {"postgres-disk-full", "run-crashed-goes-on"}

console = Console(highlight=False, soft_wrap=True)


@dataclass
class Soak:
    """The state of the soak test."""

    testbed: FaultTestbed
    rate: float
    series: FaultSeries
    stop: threading.Event = field(default_factory=threading.Event)
    drains: dict[Drain, float] = field(default_factory=dict)  # with their start times
    outcomes: list[Outcome] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    max_lag: int = 0
    failure: Exception | None = None

    @property
    def confirmed(self) -> int:
        return sum(len(one.entries) for one in self.series.produced)

    def produce(self, seed: int) -> None:
        """Add events at the steady rate until `stop` is set. Catches up after Redis was away."""
        source = (entry for batch in endless(seed, 1_000) for entry in batch)
        began, sent = time.monotonic(), 0
        try:
            with self.testbed.redis_client() as client:
                while not self.stop.wait(_TICK_SECONDS):
                    due = int((time.monotonic() - began) * self.rate) - sent
                    for one in self.series.produced:
                        one.send(client, (next(source) for _ in range(due // len(self.series.produced))))
                    sent += due // len(self.series.produced) * len(self.series.produced)
        except Exception as error:  # the main thread reports it
            self.failure = error

    def lag(self) -> int | None:
        """The number of confirmed entries that the ledger does not have. None while the database is away."""
        confirmed = self.confirmed
        try:
            with self.testbed.sql() as connection:
                row = connection.execute("SELECT coalesce(sum(read), 0)::bigint FROM spillway.ledger").fetchone()
        except psycopg.Error:
            return None
        assert row is not None  # an aggregate
        lag: int = max(0, confirmed - row[0])
        self.max_lag = max(self.max_lag, lag)
        return lag

    def start_drain(self, rng: random.Random) -> None:
        name = f"soak-{len(self.outcomes) + len(self.drains)}-{rng.randrange(1 << 32):08x}"
        harness = Harness(None, DELAYS, self.testbed.prefect_url, name, self.testbed.log)
        self.drains[self.series.start(self.testbed, harness, rng.randint(200, 2_000))] = time.monotonic()

    def reap(self, wait: bool = False) -> None:
        """Collect the outcomes of the drains that have ended or have run too long; with `wait`, of all drains."""
        for drain, began in tuple(self.drains.items()):
            left = began + _DRAIN_LIMIT_SECONDS - time.monotonic()
            if wait or left < 0 or not drain.process.is_alive() or drain.has_result():
                self.outcomes.append(drain.outcome(max(5, left)))
                del self.drains[drain]


def main(
    minutes: Annotated[float, typer.Option(min=0.1)] = 60,
    rate: Annotated[float, typer.Option(min=1, help="Events a second; 1 kB of memory for each event.")] = 200,
    engine: Annotated[str | None, typer.Option(help="The first that can run here, if not given.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the random generator. Random by default.")] = None,
) -> None:
    """Run the soak test. Exit code 1 if anything was lost, doubled or changed, if a drain hung, or if the lag grew too
    large."""
    seed = random.randrange(1 << 32) if seed is None else seed
    with ExitStack() as stack:
        api = stack.enter_context(running_prefect())
        settings, used = stack.enter_context(throwaway_servers("soak", engine))
        testbed = stack.enter_context(running_testbed(settings, used, api))
        console.print(f"{used.name}: {minutes:g} minutes, {rate:g} events/s, seed {seed}")
        soak = Soak(testbed, rate, FaultSeries("soak", seed))
        producer = threading.Thread(target=soak.produce, args=[seed], daemon=True)
        producer.start()
        _run(soak, random.Random(seed), time.monotonic() + minutes * 60)
        testbed.restore()
        soak.stop.set()
        producer.join(60)
        good = _finish(soak)
    raise typer.Exit(0 if good else 1)


def _run(soak: Soak, rng: random.Random, until: float) -> None:
    """Start drains, faults and samples in turn, in one thread, since some faults require that no drain starts."""
    possible = [
        kind
        for kind, fault in KINDS.items()
        if not (fault.slow or fault.lasting or fault.shared or kind in _NOT_HERE or fault.impossible(soak.testbed))
    ]
    began = time.monotonic()
    next_drain = next_sample = next_report = began
    next_fault = began + rng.uniform(*_FAULT_EVERY_SECONDS)
    under_way: tuple[Fault, list[Drain]] | None = None
    heal_at = 0.0
    lag: int | None = None
    while (now := time.monotonic()) < until and soak.failure is None:
        if now >= next_drain:
            soak.reap()
            if len(soak.drains) < _MOST_DRAINS:
                soak.start_drain(rng)
            next_drain = now + _DRAIN_EVERY_SECONDS
        if under_way is None and now >= next_fault and soak.drains:
            under_way = _inject(soak, rng, rng.choice(possible))
            heal_at = time.monotonic() + rng.uniform(*under_way[0].lasts)
        elif under_way is not None and now >= heal_at:
            _heal(soak, *under_way)
            under_way, next_fault = None, time.monotonic() + rng.uniform(*_FAULT_EVERY_SECONDS)
        if now >= next_sample:
            lag, next_sample = soak.lag(), now + _SAMPLE_EVERY_SECONDS
        if now >= next_report:
            _report(soak, now - began, lag)
            next_report = now + _REPORT_EVERY_SECONDS
        time.sleep(_TICK_SECONDS)
    if under_way is not None:
        _heal(soak, *under_way)


def _inject(soak: Soak, rng: random.Random, kind: str) -> tuple[Fault, list[Drain]]:
    fault = KINDS[kind](soak.testbed, rng)
    soak.faults[kind] = soak.faults.get(kind, 0) + 1
    fault.prepare(soak.series)
    drains = [drain for drain in soak.drains if drain.process.is_alive()] or list(soak.drains)
    fault.inject(drains)
    return fault, drains


def _heal(soak: Soak, fault: Fault, drains: list[Drain]) -> None:
    fault.heal(drains)
    for drain in drains:
        drain.go_on()
    soak.testbed.restore()
    fault.clean()


def _report(soak: Soak, seconds: float, lag: int | None) -> None:
    failed = sum(bool(outcome.error) for outcome in soak.outcomes)
    console.print(
        f"{seconds / 60:5.1f} min: {soak.confirmed:,} produced, lag {'unknown' if lag is None else f'{lag:,}'}"
        f" (max {soak.max_lag:,}), {len(soak.outcomes)} drains of which {failed} failed,"
        f" {sum(soak.faults.values())} faults"
    )


def _finish(soak: Soak) -> bool:
    """Drain the rest, compare the tables and print the result. Returns whether all is well."""
    soak.reap(wait=True)
    last = Harness(None, DELAYS, soak.testbed.prefect_url, log=soak.testbed.log)
    healthy = soak.series.start(soak.testbed, last).outcome(_DRAIN_LIMIT_SECONDS)
    lag = soak.lag()
    with soak.testbed.sql() as connection:
        verdict = judge(connection, soak.series.produced)
    bound = int(soak.rate * _LAG_SECONDS)
    texts = sorted(set(wrong_texts(soak.testbed, soak.outcomes)))
    wrong = [
        *([f"the producer failed: {soak.failure}"] if soak.failure else []),
        *([] if verdict.clean else [str(verdict)]),
        *([f"the last drain was not healthy: {healthy}"] if healthy.error or healthy.hung else []),
        *([f"{hung} drains hung"] if (hung := sum(outcome.hung for outcome in soak.outcomes)) else []),
        *([f"the lag was {soak.max_lag:,} at most, expected {bound:,} or less"] if soak.max_lag > bound else []),
        *([] if lag == 0 else [f"the lag is {lag} at the end, expected 0"]),
        *texts,
    ]
    console.print(f"faults: {', '.join(f'{kind} {count}' for kind, count in sorted(soak.faults.items()))}")
    console.print(f"max lag {soak.max_lag:,} events ({soak.max_lag / soak.rate:.0f} s), at the end {lag}")
    for one in wrong:
        console.print(f"[red]BAD[/red] {one}", markup=True)
    console.print("[red]not well[/red]" if wrong else "[green]all is well[/green]")
    return not wrong


if __name__ == "__main__":
    typer.run(main)
