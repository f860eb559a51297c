"""What a drain says of itself while it runs, to whoever watches in the same process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """A stream's drain begins, with `entries` to go, about."""

    stream: str
    entries: int


@dataclass(frozen=True)
class Advanced:
    """`entries` more of a stream are committed."""

    stream: str
    entries: int


@dataclass(frozen=True)
class Retry:
    """A step failed for a passing reason and is tried again: attempt `attempt` of `attempts` failed."""

    reason: str
    attempt: int
    attempts: int


@dataclass(frozen=True)
class StepReached:
    """A work of several steps, such as an archive, is as far as `step`."""

    work: str
    step: str


ProgressEvent = Started | Advanced | Retry | StepReached
_watchers: list[Callable[[ProgressEvent], None]] = []


@contextmanager
def subscribe(by: Callable[[ProgressEvent], None]) -> Iterator[None]:
    """Call `by` with all news while the block runs. It is called from several threads."""
    _watchers.append(by)
    try:
        yield
    finally:
        _watchers.remove(by)


_answering: list[Callable[[str], bool]] = []


@contextmanager
def answer_with(by: Callable[[str], bool]) -> Iterator[None]:
    """Have `by` answer the questions of the flow while the block runs."""
    _answering.append(by)
    try:
        yield
    finally:
        _answering.remove(by)


def ask(question: str) -> bool:
    """Whether somebody is there who says yes."""
    return bool(_answering) and _answering[-1](question)


def emit(news: ProgressEvent) -> None:
    """Tell the watchers."""
    for watcher in tuple(_watchers):
        watcher(news)
