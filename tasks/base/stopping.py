"""Whether the run that some code belongs to is being stopped. Threads other than the main one get no signal."""

from __future__ import annotations

from contextvars import Context, ContextVar
from threading import Event

_NEVER = Event()
_stopping: ContextVar[Event] = ContextVar("stopping", default=_NEVER)


def stop_with(event: Event, context: Context) -> None:
    """Let code that runs in `context` stop as soon as `event` is set."""
    context.run(_stopping.set, event)


def is_stopping() -> bool:
    """Whether to begin nothing more."""
    return _stopping.get().is_set()


def pause(seconds: float) -> bool:
    """Sleep, but not longer than until the run is being stopped. Returns whether it is."""
    return _stopping.get().wait(seconds)
