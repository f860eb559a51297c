"""Run one fault: produce, drain, inject, heal, drain again, compare."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.faults.campaign.fault import Fault, any_time
from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.kinds import KINDS
from tests.faults.campaign.testbed import DELAYS, FaultTestbed
from tests.faults.campaign.texts import SECRETS, wrong_retry, wrong_text
from tests.faults.campaign.verdict import Verdict
from tests.support.pause_points import Point
from tests.support.processes import Drain, Harness, Outcome

_POINT_SECONDS = 20  # a drain reaches its point within this time, or not at all
_HEALTHY_SECONDS = 60


@dataclass(frozen=True)
class Result:
    """The result of one fault.

    `where`: when it was injected. `hung`: the number of processes that had to be killed. `texts`: error messages with a
    defect, and the defect. `complaints`: everything else that is wrong.
    """

    kind: str
    seed: int
    where: str
    seconds: float
    verdict: Verdict
    hung: int = 0
    texts: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()  # all messages that an operator reads
    log: str = ""  # output of the processes

    @property
    def good(self) -> bool:
        return self.verdict.clean and not (self.hung or self.texts or self.complaints)

    def __str__(self) -> str:
        verdict = self.verdict
        wrong = [
            *(f"{n} {name}" for name in ("lost", "doubled", "different") if (n := getattr(verdict, name))),
            *verdict.unbalanced,
            *([f"{self.hung} hung"] if self.hung else []),
            *self.complaints,
            *self.texts,
        ]
        return f"{self.kind}:{self.seed} {self.where}, {self.seconds:.1f} s: {'; '.join(wrong) or 'all is well'}"


def run_fault(testbed: FaultTestbed, series: FaultSeries, kind: str, seed: int) -> Result:
    """Run the fault of this kind and seed. Afterwards all servers and networks work again."""
    began = time.monotonic()
    rng = random.Random(seed)
    fault = KINDS[kind](testbed, rng)
    series.produce(testbed)
    testbed.log.write_bytes(b"")
    outcomes: list[Outcome] = []
    where = "before it began"
    complaints: list[str] = []
    with _cleaned(fault, complaints):
        fault.prepare(series)
        where = _disturb(testbed, series, fault, rng, outcomes)
        complaints += fault.complain(outcomes)
    testbed.restore()
    after = Harness(None, DELAYS, testbed.prefect_url, log=testbed.log, flow=series.flows[-1])
    healthy = series.start(testbed, after).outcome(_HEALTHY_SECONDS)
    if healthy.error or healthy.result.get("lag") != 0:
        complaints.append(f"the drain after it was not healthy: {healthy}")
    complaints += series.check(testbed)
    log = testbed.log.read_text(errors="replace")
    if any(secret in log for secret in SECRETS):
        complaints.append("what the processes printed shows a password")
    with testbed.sql() as connection:
        verdict = series.judge(connection)
    return Result(
        kind,
        seed,
        where,
        time.monotonic() - began,
        verdict,
        sum(outcome.hung and not (fault.may_linger is not None and outcome.result) for outcome in (*outcomes, healthy)),
        tuple(dict.fromkeys(wrong_texts(testbed, outcomes))),
        tuple(complaints),
        tuple(dict.fromkeys(text for outcome in outcomes for text in outcome.messages)),
        log,
    )


def _disturb(
    testbed: FaultTestbed, series: FaultSeries, fault: Fault, rng: random.Random, outcomes: list[Outcome]
) -> str:
    """Start the drains, inject the fault, heal it, and wait for the drains. Returns a description of the moment."""
    moment = fault.moment()
    drains: list[Drain] = []
    try:
        count, fault.hit = series.count_drains(rng, *fault.drains)
        for number in range(count):
            point = moment if isinstance(moment, Point) and number == 0 else None
            name = f"{series.name}-{rng.randrange(1 << 32):08x}"
            flow = rng.choice(series.flows) if number and not fault.in_prefect else "drain"
            harness = Harness(point, DELAYS, testbed.prefect_url, name, testbed.log, flow, fault.prefect_retries)
            drains.append(series.start(testbed, harness, rng.randint(*series.batch_rows)))
            if number == 0 and series.head_start and isinstance(moment, Point):
                drains[0].reached(_POINT_SECONDS)
        if isinstance(moment, Point):
            where = str(moment) if drains[0].reached(_POINT_SECONDS) else f"never came {moment}"
            time.sleep(any_time(rng) if series.head_start else 0)
        else:
            where = f"after {moment:.2f} s"
            time.sleep(moment)
        fault.inject(drains)
        if not fault.holds:
            _let_go_on(drains)
        if fault.lasting:
            outcomes += [drain.outcome(fault.limit, fault.may_linger) for drain in drains]
            fault.heal(drains)
        else:
            time.sleep(rng.uniform(*fault.lasts))
            fault.heal(drains)
            outcomes += [drain.outcome(fault.limit, fault.may_linger) for drain in drains]
    finally:
        for drain in drains:
            drain.kill()
    working = sum(outcome.result.get("read", 0) > 0 for outcome in outcomes)
    return ", ".join(filter(None, (where, fault.note, f"{working} of {count} drains got entries" if count > 1 else "")))


def _let_go_on(drains: Sequence[Drain]) -> None:
    for drain in drains:
        drain.go_on()


@contextmanager
def _cleaned(fault: Fault, complaints: list[str]) -> Iterator[None]:
    """Turn any exception into a complaint, and undo the fault."""
    try:
        yield
    except Exception as error:
        complaints.append(f"the campaign itself failed: {type(error).__name__}: {error}")
    finally:
        fault.testbed.restore()
        fault.clean()


def wrong_texts(testbed: FaultTestbed, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The errors and reasons for retries that have a defect, each with the defect."""
    for outcome in outcomes:
        if outcome.error and (wrong := wrong_text(outcome.error, testbed.places)):
            yield f"{wrong}: «{outcome.error}»"
        for retry in outcome.result.get("retries", []):
            if wrong := wrong_retry(retry, testbed.places):
                yield f"{wrong}: «{retry}»"
