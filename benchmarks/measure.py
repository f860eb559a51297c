"""Wall time and client CPU of one run, and what many of them come to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One timed run over `events` events: `wall` and `cpu` (of this process, all threads) in seconds."""

    events: int
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.wall

    @property
    def cpu_us(self) -> float:
        """Client CPU in microseconds an event."""
        return self.cpu / self.events * 1e6


def timed(events: int, work: Callable[[], object]) -> Run:
    """Run `work` once, and time it."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Run(events, time.perf_counter() - wall, time.process_time() - cpu)


def median_rate(runs: list[Run]) -> float:
    """The median of the rates."""
    return statistics.median(run.rate for run in runs)


def ratio(runs: list[Run], to: list[Run]) -> tuple[float, float, float]:
    """Rate against rate, pair by pair of the same round: least, median, greatest."""
    ratios = sorted(a.rate / b.rate for a, b in zip(runs, to, strict=True))
    return ratios[0], statistics.median(ratios), ratios[-1]
