"""Where a drain can be held still: before and after each of its steps, in the midst of a COPY, around a commit.

Works within the process of the drain, from outside of Spillway's code: its Prefect tasks are found by their names, and
what passes psycopg is seen there. At its point the process stops itself (SIGSTOP); whoever watches it does the harm,
and lets it go on or not.
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
from prefect import Task

STEPS = ("preflight", "plan", "read", "load", "settle", "report")
POINTS = (
    *(f"before {step}" for step in STEPS),
    *(f"after {step}" for step in STEPS),
    "in copy",
    "before commit",
    "after commit",
)
# Of those that a drain comes by often enough for a later time to be chosen.
FREQUENT = {"before read", "after read", "before load", "after load", "in copy", "before commit", "after commit"}


@dataclass(frozen=True)
class Point:
    """The `time`-th time, from 1 on, that a drain comes by `where`."""

    where: str
    time: int = 1

    def __str__(self) -> str:
        return self.where if self.time == 1 else f"{self.where} no. {self.time}"


def tasks() -> list[Task[Any, Any]]:
    """The Prefect tasks of the modules that are loaded. Several may have one name."""
    rooms = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("flows", "tasks")]
    found = [value for module in rooms for value in vars(module).values() if isinstance(value, Task)]
    return list({id(task): task for task in found}.values())


def shorten_retries(delays: list[float]) -> None:
    """Try steps again after these delays (seconds): a campaign has no minute to wait for each fault."""
    for task in tasks():
        if task.retries:
            task.retries = min(task.retries, len(delays))
            task.retry_delay_seconds = delays[: task.retries]


def stop_at_point(point: Point) -> None:
    """Stop this process when it comes by `point`. Once a process: what is wrapped stays so."""
    passed = 0
    lock = threading.Lock()

    def come_by(where: str) -> None:
        nonlocal passed
        if where != point.where:
            return
        with lock:
            passed += 1
            stop = passed == point.time
        if stop:
            os.kill(os.getpid(), signal.SIGSTOP)

    for task in tasks():
        task.fn = _around(task.fn, task.name, come_by)
    _watch_copies(come_by)
    _watch_commits(come_by)


def _around(function: Callable[..., Any], name: str, come_by: Callable[[str], None]) -> Callable[..., Any]:
    @functools.wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        come_by(f"before {name}")
        result = function(*args, **kwargs)
        come_by(f"after {name}")
        return result

    return watched


def _watch_copies(come_by: Callable[[str], None]) -> None:
    write = psycopg.Copy.write

    def in_two(self: psycopg.Copy, buffer: Any) -> None:
        half = len(buffer) // 2
        write(self, bytes(buffer[:half]))
        if half > 1000:  # not the header, not the trailer
            come_by("in copy")
        write(self, bytes(buffer[half:]))

    psycopg.Copy.write = in_two  # type: ignore[method-assign]


def _watch_commits(come_by: Callable[[str], None]) -> None:
    transaction = psycopg.Connection.transaction

    @contextmanager
    def watched(self: psycopg.Connection, *args: Any, **kwargs: Any) -> Iterator[psycopg.Transaction]:
        # A transaction within another is a savepoint.
        outermost = self.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        with transaction(self, *args, **kwargs) as begun:
            yield begun
            if outermost:
                come_by("before commit")
        if outermost:
            come_by("after commit")

    psycopg.Connection.transaction = watched  # type: ignore[assignment, method-assign]
