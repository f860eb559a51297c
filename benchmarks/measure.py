"""Wall time and client CPU of one run, and statistics of many runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg


@dataclass(frozen=True)
class Run:
    """One timed run over `events` events. `wall` and `cpu` (this process, all threads) in seconds."""

    events: int
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.wall

    @property
    def cpu_us(self) -> float:
        """Client CPU in microseconds per event."""
        return self.cpu / self.events * 1e6


@dataclass(frozen=True)
class Spread:
    """The median of several figures, with minimum and maximum."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """The spread of one or more figures."""
        return cls(statistics.median(figures), min(figures), max(figures))


def timed(events: int, work: Callable[[], object]) -> Run:
    """Run `work` once and time it."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Run(events, time.perf_counter() - wall, time.process_time() - cpu)


def ratio(runs: Sequence[Run], to: Sequence[Run]) -> Spread:
    """The ratio of two rates, for the pairs of each round."""
    return Spread.of([a.rate / b.rate for a, b in zip(runs, to, strict=True)])


def processor_seconds(connection: psycopg.Connection) -> float:
    """The processor time of this process and of its session in the database, in seconds. Needs Linux."""
    server = Path(f"/proc/{connection.info.backend_pid}/schedstat").read_text().split()[0]
    return time.process_time() + int(server) / 1e9
