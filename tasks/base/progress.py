"""Progress events and questions of a flow, for its caller in the same process.

Subscribers are kept in context variables, so each call of a flow has its own. Prefect runs the threads of tasks in a
copy of the caller's context, so tasks have the same subscribers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """The drain of a stream starts, with about `entries` to read."""

    stream: str
    entries: int


@dataclass(frozen=True)
class Advanced:
    """`entries` more of a stream are committed."""

    stream: str
    entries: int


@dataclass(frozen=True)
class Retry:
    """A step failed with a transient error. Retry number `attempt` of at most `attempts` follows."""

    reason: str
    attempt: int
    attempts: int


@dataclass(frozen=True)
class StepReached:
    """A job of several steps, such as archiving a chunk, has reached `step`."""

    work: str
    step: str


@dataclass(frozen=True)
class Stopping:
    """A signal ends the run. What is at work has `seconds` to end, then it is cancelled."""

    seconds: float


ProgressEvent = Started | Advanced | Retry | StepReached | Stopping
Subscriber = Callable[[ProgressEvent], None]

_subscribers: ContextVar[tuple[Subscriber, ...]] = ContextVar("subscribers", default=())
_answer: ContextVar[Callable[[str], bool] | None] = ContextVar("answer", default=None)


@contextmanager
def subscribe(subscriber: Subscriber) -> Iterator[None]:
    """Call `subscriber` with every event of the flows that the block calls. Several threads may call it at once."""
    token = _subscribers.set((*_subscribers.get(), subscriber))
    try:
        yield
    finally:
        _subscribers.reset(token)


def emit(event: ProgressEvent) -> None:
    """Pass an event to the subscribers of the running flow."""
    for subscriber in _subscribers.get():
        subscriber(event)


@contextmanager
def answer_with(answer: Callable[[str], bool]) -> Iterator[None]:
    """Let `answer` decide the yes-or-no questions of the flows that the block calls."""
    token = _answer.set(answer)
    try:
        yield
    finally:
        _answer.reset(token)


def ask(question: str) -> bool:
    """The answer to a yes-or-no question. False outside of `answer_with`."""
    answer = _answer.get()
    return answer is not None and answer(question)
