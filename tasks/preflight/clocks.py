"""Checks whether the clocks of this machine, PostgreSQL and Redis agree.

A wrong clock does silent harm. By the clock of this machine an event counts as too old or too far in the future and
goes to quarantine. By the clock of PostgreSQL chunks are compressed and dropped. By the clock of Redis entries get
their ids and are trimmed.
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
    """The clock of a server. `ahead`: seconds ahead of this machine's clock. `within`: its uncertainty."""

    name: str
    ahead: float
    within: float = 0.0

    def apart(self, other: Clock) -> float:
        """The smallest possible difference between the two clocks, in seconds."""
        return max(0.0, abs(self.ahead - other.ahead) - self.within - other.within)


def clock(name: str, reported: float, asked: float, answered: float) -> Clock:
    """A clock that reported `reported` at some moment between `asked` and `answered`, all in seconds since 1970."""
    return Clock(name, reported - (asked + answered) / 2, (answered - asked) / 2)


def database_clock(connection: psycopg.Connection) -> Clock:
    """The clock of PostgreSQL. Raises `psycopg.Error`."""
    asked = time.time()
    row = connection.execute(_NOW).fetchone()
    assert row is not None  # a SELECT without FROM has one row
    return clock("PostgreSQL", row[0], asked, time.time())


def compare_clocks(*servers: Clock) -> list[str]:
    """A warning if any two of the clocks, including this machine's, differ by more than a minute.

    Raises `Terminal` if any two differ by more than half an hour.
    """
    clocks = [Clock("this machine", 0.0), *servers]
    most = max(one.apart(other) for one, other in combinations(clocks, 2))
    if most <= _WARN_SECONDS:
        return []
    problem = f"{_verdict(clocks)} ({_format_times(clocks)})"
    if most <= _REFUSE_SECONDS:
        return [f"{problem}; correct that clock, preferably by NTP: timedatectl set-ntp true"]
    raise Terminal(
        f"preflight: {problem}; expected a difference of at most half an hour, since a wrong clock sends good events to"
        " quarantine and removes chunks and entries at the wrong time; nothing was read or written; correct that clock,"
        " preferably by NTP (timedatectl set-ntp true), then try again"
    )


def _verdict(clocks: Sequence[Clock]) -> str:
    """Which clock is wrong: of three, the one that differs from two others that agree."""
    if len(clocks) == 2:
        return f"the clocks of {clocks[0].name} and {clocks[1].name} differ by {_format_seconds(clocks[1].ahead)}"
    pairs = [(one.apart(other), one, other) for one, other in combinations(clocks, 2)]
    agreed, one, other = min(pairs, key=lambda pair: pair[0])
    if agreed > _WARN_SECONDS:
        return "no two of the three clocks agree"
    odd = next(clock for clock in clocks if clock not in (one, other))
    by = odd.ahead - (one.ahead + other.ahead) / 2
    way = "ahead of" if by > 0 else "behind"
    return f"the clock of {odd.name} is {_format_seconds(by)} {way} those of {one.name} and {other.name}"


def _format_times(clocks: Sequence[Clock]) -> str:
    now = time.time()
    return ", ".join(f"{one.name}: {datetime.fromtimestamp(now + one.ahead, UTC):%Y-%m-%dT%H:%M:%SZ}" for one in clocks)


def _format_seconds(seconds: float) -> str:
    return str(timedelta(seconds=round(abs(seconds))))
