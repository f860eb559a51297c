"""A step as a Prefect task run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from tasks.base import step as steps

if TYPE_CHECKING:
    from tasks.base.step import Step

P = ParamSpec("P")
R = TypeVar("R")


def run_as_task(step: Step[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a step as a task of the current flow, with its retries.

    The task itself has no arguments: Prefect would search them for results of other tasks, entry by entry. Nothing is
    hashed or persisted, since the ledger records what was done.
    """

    def attempt() -> R:
        return step.attempt(*args, **kwargs)

    def may_succeed_later(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
        error = state.result(raise_on_failure=False)
        return isinstance(error, BaseException) and steps.may_succeed_later(error, run.run_count, task.retries)

    task = Task(
        fn=attempt,
        name=step.name,
        retries=step.retries,
        retry_delay_seconds=list(step.delays),
        retry_jitter_factor=steps.JITTER,
        retry_condition_fn=may_succeed_later,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    return task()
