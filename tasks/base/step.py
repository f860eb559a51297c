"""What all steps have in common: retried while the reason is a passing one, never cached, results in memory only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from infra.errors.classify import is_transient
from infra.errors.exceptions import Transient
from infra.errors.redact import one_line
from infra.settings import settings
from tasks.base.progress import Retry, emit

P = ParamSpec("P")
R = TypeVar("R")

_FIRST_DELAY_SECONDS = 1  # then 2, 4, 8 …
_JITTER = 0.5  # of the delay: runs that failed together do not come back together


def step(name: str, retries: int | None = None) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a Prefect task that is tried again after a `Transient` error, `retries` times at most.

    Nothing is hashed or persisted: a batch is large, and the ledger is what remembers.
    """
    attempts = settings().retries if retries is None else min(retries, settings().retries)
    return task(
        name=name,
        retries=attempts,
        retry_delay_seconds=exponential_backoff(_FIRST_DELAY_SECONDS) if attempts else None,
        retry_jitter_factor=_JITTER,
        retry_condition_fn=_may_work_later,
        cache_policy=NO_CACHE,
        persist_result=False,
    )


def _may_work_later(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    if not (isinstance(error, BaseException) and is_transient(error)):
        return False
    if isinstance(error, Transient):
        emit(Retry(one_line(error), run.run_count, task.retries))
    return True
