"""What all steps have in common: transient errors are retried, and nothing is cached or persisted.

A step is a plain function. Called by a Prefect flow it is a task run of it, with retries that Prefect shows. Called by
another step, or without Prefect, it runs here with the same retries: so the number of task runs does not grow with the
number of events, and a command needs no Prefect server.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Generic, ParamSpec, TypeVar

from infra.errors.classify import is_transient
from infra.errors.exceptions import Transient
from infra.errors.redact import one_line
from infra.settings import settings
from tasks.base.progress import Retry, emit
from tasks.base.run_log import in_flow, run_logger
from tasks.base.stopping import is_stopping, pause

P = ParamSpec("P")
R = TypeVar("R")

_LONGEST_DELAY_SECONDS = 300
# The delay before each retry; the last one repeats. With the default of 6 retries a step waits 63 s altogether.
_DELAYS_SECONDS = tuple(min(2.0**n, _LONGEST_DELAY_SECONDS) for n in range(10))
JITTER = 0.5  # of the delay, so that runs that failed together do not retry together
_NO_LIMIT = 100  # SPILLWAY_RETRIES cannot be higher

_within: ContextVar[bool] = ContextVar("within a step", default=False)


class Step(Generic[P, R]):
    """A function that is called again after a `Transient` error, `retries` times at most.

    `delays`: seconds before each retry; the last one repeats. `is_task`: whether a flow makes a task run of it.
    """

    def __init__(self, fn: Callable[P, R], name: str, most_retries: int, is_task: bool = True) -> None:
        self.fn = fn
        self.name = name
        self.most_retries = most_retries
        self.is_task = is_task
        self.delays: Sequence[float] = _DELAYS_SECONDS
        functools.update_wrapper(self, fn)

    @property
    def retries(self) -> int:
        """SPILLWAY_RETRIES as it is now, or fewer if this step has a smaller limit of its own."""
        return min(self.most_retries, settings().retries)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the step. Raises what the function raises at its last attempt."""
        if not self.is_task or _within.get() or not in_flow():
            return self._run_here(*args, **kwargs)
        from tasks.base.task_run import run_as_task  # Prefect takes a second to import

        return run_as_task(self, *args, **kwargs)

    def attempt(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function once. Steps that it calls are no task runs."""
        token = _within.set(True)
        try:
            return self.fn(*args, **kwargs)
        finally:
            _within.reset(token)

    def _run_here(self, *args: P.args, **kwargs: P.kwargs) -> R:
        failed = 0
        while True:
            try:
                return self.attempt(*args, **kwargs)
            except Exception as error:
                failed += 1
                if failed > (most := self.retries) or is_stopping() or not may_succeed_later(error, failed, most):
                    raise
                delay = self.delays[min(failed, len(self.delays)) - 1] * random.uniform(1, 1 + JITTER)  # noqa: S311
                run_logger().info("%s: retry %d of %d in %.1f s: %s", self.name, failed, most, delay, one_line(error))
                if pause(delay):
                    raise


def step(name: str, retries: int = _NO_LIMIT, is_task: bool = True) -> Callable[[Callable[P, R]], Step[P, R]]:
    """Make a function a step that is retried after a `Transient` error, at most `retries` times.

    0 for a step that consists of others: these are retried, each on its own. `is_task`: False if it does too little to
    be a task run of its own.
    """
    return lambda function: Step(function, name, retries, is_task)


def may_succeed_later(error: BaseException, failed: int, most: int) -> bool:
    """Whether to try again after attempt number `failed`; `most` retries are allowed. Tells the subscribers."""
    if not is_transient(error):
        return False
    if isinstance(error, Transient):
        emit(Retry(one_line(error), failed, most))
    return True
