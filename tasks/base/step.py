"""What all steps have in common: transient errors are retried, nothing is cached, and results stay in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from infra.errors.classify import is_transient
from infra.errors.exceptions import Transient
from infra.errors.redact import one_line
from infra.settings import settings
from tasks.base.progress import Retry, emit

P = ParamSpec("P")
R = TypeVar("R")

_LONGEST_DELAY_SECONDS = 300
# The delay before each retry; the last one repeats. With the default of 6 retries a step waits 63 s altogether.
_DELAYS_SECONDS = [min(2.0**n, _LONGEST_DELAY_SECONDS) for n in range(10)]
_JITTER = 0.5  # of the delay, so that runs that failed together do not retry together
_NO_LIMIT = 100  # SPILLWAY_RETRIES cannot be higher


class Step(Task[P, R]):
    """A Prefect task that reads its number of retries from the settings when it fails, not at import."""

    _most_retries: int

    @property
    def retries(self) -> int:
        """SPILLWAY_RETRIES, or fewer if this step has a smaller limit of its own. Prefect reads it when a run fails."""
        return min(self._most_retries, settings().retries)

    @retries.setter
    def retries(self, most: int) -> None:
        self._most_retries = most


def step(name: str, retries: int = _NO_LIMIT) -> Callable[[Callable[P, R]], Step[P, R]]:
    """Make a function a Prefect task that is retried after a `Transient` error, at most `retries` times.

    Arguments and results are neither hashed nor persisted: a batch is large, and the ledger records what was done.
    """

    def wrap(function: Callable[P, R]) -> Step[P, R]:
        return Step(
            fn=function,
            name=name,
            retries=retries,
            retry_delay_seconds=_DELAYS_SECONDS,
            retry_jitter_factor=_JITTER,
            retry_condition_fn=_may_succeed_later,
            cache_policy=NO_CACHE,
            persist_result=False,
        )

    return wrap


def _may_succeed_later(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    if not (isinstance(error, BaseException) and is_transient(error)):
        return False
    if isinstance(error, Transient):
        emit(Retry(one_line(error), run.run_count, task.retries))
    return True
