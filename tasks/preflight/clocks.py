"""Do the clocks of this machine, of PostgreSQL and of Redis agree?

A wrong one does harm in silence. By this machine's clock an event is too old or too far ahead and goes to quarantine;
by PostgreSQL's, chunks are compressed and dropped; by Redis's, entries get their ids and are trimmed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations

import psycopg

from infra.errors.exceptions import Terminal

_WARN_SECONDS = 60
_REFUSE_SECONDS = 30 * 60

_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"


@dataclass(frozen=True)
class Clock:
    """A server's clock. `ahead`: of this machine's, in seconds; `within`: by how much that may be wrong."""

    name: str
    ahead: float
    within: float = 0.0

    def apart(self, other: Clock) -> float:
        """By how many seconds the two differ at least."""
        return max(0.0, abs(self.ahead - other.ahead) - self.within - other.within)


def clock(name: str, shown: float, asked: float, answered: float) -> Clock:
    """The clock that showed `shown` at some moment between `asked` and `answered`, all in seconds since 1970."""
    return Clock(name, shown - (asked + answered) / 2, (answered - asked) / 2)


def database_clock(connection: psycopg.Connection) -> Clock:
    """PostgreSQL's clock. Raises `psycopg.Error`."""
    asked = time.time()
    row = connection.execute(_NOW).fetchone()
    assert row is not None  # a SELECT without FROM has one row
    return clock("PostgreSQL", row[0], asked, time.time())


def compare_clocks(*servers: Clock) -> list[str]:
    """A warning if two of the clocks, this machine's among them, differ by more than a minute.

    Raises `Terminal` if they differ by more than half an hour.
    """
    clocks = [Clock("this machine", 0.0), *servers]
    most = max(one.apart(other) for one, other in combinations(clocks, 2))
    if most <= _WARN_SECONDS:
        return []
    problem = f"{_verdict(clocks)} ({_shown(clocks)})"
    if most <= _REFUSE_SECONDS:
        return [f"{problem}; set that clock, by NTP if possible (timedatectl)"]
    raise Terminal(
        f"{problem}; expected a difference of half an hour at most: by a wrong clock good events go to quarantine, and"
        " chunks and entries go too early or too late; nothing was read or written: set that clock, by NTP if possible"
        " (timedatectl), then run this again"
    )


def _verdict(clocks: Sequence[Clock]) -> str:
    """Which clock is wrong: with three, the one from which the other two differ more than from each other."""
    if len(clocks) == 2:
        return f"the clocks of {clocks[0].name} and {clocks[1].name} differ by {_span(clocks[1].ahead)}"
    pairs = [(one.apart(other), one, other) for one, other in combinations(clocks, 2)]
    agreed, one, other = min(pairs, key=lambda pair: pair[0])
    if agreed > _WARN_SECONDS:
        return "of the three clocks no two agree"
    odd = next(clock for clock in clocks if clock not in (one, other))
    by = odd.ahead - (one.ahead + other.ahead) / 2
    way = "ahead of" if by > 0 else "behind"
    return f"the clock of {odd.name} is {_span(by)} {way} those of {one.name} and {other.name}"


def _shown(clocks: Sequence[Clock]) -> str:
    now = time.time()
    return ", ".join(f"{one.name}: {datetime.fromtimestamp(now + one.ahead, UTC):%Y-%m-%dT%H:%M:%SZ}" for one in clocks)


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(abs(seconds))))
