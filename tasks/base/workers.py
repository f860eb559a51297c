"""Threads of a run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import Event, Thread
from types import TracebackType
from typing import ParamSpec, TypeVar

from infra.connections.clients import Clients
from tasks.base.progress import Stopping, emit
from tasks.base.stopping import stop_with

P = ParamSpec("P")
R = TypeVar("R")

# What docker and podman wait before they kill is 10 s. A load takes less than a second, unless it waits.
_GRACE_SECONDS = 5.0
_QUIET_SECONDS = 0.5  # before the user gets a message
_AGAIN_SECONDS = 1.0  # work may begin another statement after one was cancelled


class Workers(ThreadPoolExecutor):
    """Threads whose work belongs to the run that submits it: it has the same subscribers, log and step.

    As a context manager it waits for its work. If an error ends the block, or a signal, work that has not begun is left
    out, and nothing is tried again. After a signal, statements have 5 s to end, then the server is asked to cancel
    them: a wait for a lock would keep the process for minutes, until somebody kills it.
    `stopping`: set as soon as no more work may begin.
    """

    def __init__(self, clients: Clients, count: int) -> None:
        super().__init__(count)
        self.stopping = Event()
        self._clients = clients

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """As in `ThreadPoolExecutor`, in a copy of the caller's context."""
        context = copy_context()
        stop_with(self.stopping, context)
        return super().submit(lambda: context.run(fn, *args, **kwargs))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.shutdown()
            return
        self.stopping.set()
        ended = Event()
        if not issubclass(kind, Exception):
            Thread(target=copy_context().run, args=[self._cancel_unless, ended], daemon=True).start()
        self.shutdown(cancel_futures=True)
        ended.set()  # not if another signal interrupts this: the end of the process waits for the threads as well

    def _cancel_unless(self, ended: Event) -> None:
        if ended.wait(_QUIET_SECONDS):
            return
        emit(Stopping(_GRACE_SECONDS))
        if ended.wait(_GRACE_SECONDS):
            return
        while True:
            self._clients.cancel_statements()
            if ended.wait(_AGAIN_SECONDS):
                return
