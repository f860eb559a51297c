"""Points at which a drain can be paused: before and after each step, in the middle of a COPY, around a commit.

This runs in the drain's process and needs no hooks in Spillway: it wraps the steps, found by name, and psycopg.
At its point the process stops itself with SIGSTOP. The test then injects its fault and lets the process continue, or
kills it.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from tasks.base.step import Step
from tasks.ledger import claims

STEPS = ("preflight", "plan", "read", "load", "settle", "report")
POINTS = (
    *(f"before {step}" for step in STEPS),
    *(f"after {step}" for step in STEPS),
    "in copy",
    "before commit",
    "after commit",
)
# Points that a drain passes often enough that a test may choose a later pass.
FREQUENT = {"before read", "after read", "before load", "after load", "in copy", "before commit", "after commit"}


@dataclass(frozen=True)
class Point:
    """The `time`-th pass, counted from 1, of the point `where`."""

    where: str
    time: int = 1

    def __str__(self) -> str:
        return self.where if self.time == 1 else f"{self.where} no. {self.time}"


def steps() -> list[Step[..., Any]]:
    """The steps of all loaded modules. Several may share a name."""
    rooms = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("flows", "tasks")]
    found = [value for module in rooms for value in vars(module).values() if isinstance(value, Step)]
    return list({id(one): one for one in found}.values())


def shorten_retries(delays: list[float]) -> None:
    """Retry steps after these delays (seconds): a campaign cannot wait a minute for each fault."""
    for one in steps():
        if one.most_retries:
            one.most_retries = min(one.most_retries, len(delays))
            one.delays = delays[: one.most_retries]


def shrink_claims(entries: int) -> None:
    """Cut a stream into parts of so many entries at least, and end the claims of a process that stands still after 2 s:
    a campaign cannot produce 100,000 entries or wait a minute for each fault."""
    claims._LEAST_ENTRIES = entries
    claims._IDLE_SECONDS, claims._SIGN_OF_LIFE_SECONDS = 2, 0.5


def stop_at_point(point: Point) -> None:
    """Stop this process at `point`. Call it once a process: wrapped functions stay wrapped."""
    passed = 0
    lock = threading.Lock()

    def stop_if_reached(where: str) -> None:
        nonlocal passed
        if where != point.where:
            return
        with lock:
            passed += 1
            stop = passed == point.time
        if stop:
            os.kill(os.getpid(), signal.SIGSTOP)

    for one in steps():
        one.fn = _around(one.fn, one.name, stop_if_reached)
    _watch_copies(stop_if_reached)
    _watch_commits(stop_if_reached)


def _around(function: Callable[..., Any], name: str, stop_if_reached: Callable[[str], None]) -> Callable[..., Any]:
    @functools.wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        stop_if_reached(f"before {name}")
        result = function(*args, **kwargs)
        stop_if_reached(f"after {name}")
        return result

    return watched


def _watch_copies(stop_if_reached: Callable[[str], None]) -> None:
    write = psycopg.Copy.write

    def in_two(self: psycopg.Copy, buffer: Any) -> None:
        half = len(buffer) // 2
        write(self, bytes(buffer[:half]))
        if half > 1000:  # not the header, not the trailer
            stop_if_reached("in copy")
        write(self, bytes(buffer[half:]))

    psycopg.Copy.write = in_two  # type: ignore[method-assign]


def _watch_commits(stop_if_reached: Callable[[str], None]) -> None:
    transaction = psycopg.Connection.transaction

    @contextmanager
    def watched(self: psycopg.Connection, *args: Any, **kwargs: Any) -> Iterator[psycopg.Transaction]:
        # A transaction within another is a savepoint.
        outermost = self.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        with transaction(self, *args, **kwargs) as begun:
            yield begun
            if outermost:
                stop_if_reached("before commit")
        if outermost:
            stop_if_reached("after commit")

    psycopg.Connection.transaction = watched  # type: ignore[assignment, method-assign]
