"""A step that runs several times at once on a Prefect task runner: threads of this process, Dask or Ray."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from infra.errors.exceptions import Terminal
from infra.settings import Settings
from tasks.base.run_log import in_flow
from tasks.base.step import Step

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

P = ParamSpec("P")
R = TypeVar("R")

_THREADS = "threads"


def spreads(config: Settings) -> bool:
    """Whether a run has other machines to work on. Without a Prefect run it has not: nobody would see its tasks."""
    return config.task_runner != _THREADS and in_flow()


def spread(config: Settings, step: Step[P, R], count: int, /, *args: P.args, **kwargs: P.kwargs) -> list[R]:
    """Run a step `count` times at once, each as a task run on the task runner of the settings, and return the results.

    The arguments go to other machines: names and numbers, no data. What a worker that dies was doing, the runner does
    again. Raises `Terminal` if the runner is not installed, and what the step raises.
    """
    from prefect import Task
    from prefect.cache_policies import NO_CACHE

    task = Task(fn=_attempt, name=step.name, retries=0, cache_policy=NO_CACHE, persist_result=False)
    parameters = {"module": step.fn.__module__, "name": step.fn.__name__, "args": args, "kwargs": kwargs}
    with _task_runner(config.task_runner, count) as runner:
        futures: list[Any] = [runner.submit(task, parameters) for _ in range(count)]
        return [future.result() for future in futures]


def _attempt(module: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a step, in the process that the task runner has chosen."""
    step: Step[..., Any] = getattr(import_module(module), name)
    return step.attempt(*args, **kwargs)


def _task_runner(chosen: str, workers: int) -> TaskRunner[Any]:
    """The task runner of a value of SPILLWAY_TASK_RUNNER. Without an address it starts `workers` local processes."""
    kind = chosen.partition("+")[0].partition("://")[0]
    address = chosen.removeprefix("dask+") if "://" in chosen else None
    try:
        package: Any = import_module(f"prefect_{kind}")
    except ImportError as error:
        raise Terminal(
            f"SPILLWAY_TASK_RUNNER={kind}: expected the package prefect-{kind}, found none; nothing was read; install"
            f" it with Spillway on this machine and on the workers: pip install 'spillway[{kind}]'"
        ) from error
    runner: TaskRunner[Any]
    if kind == "dask":
        local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
        runner = package.DaskTaskRunner(address=address) if address else package.DaskTaskRunner(cluster_kwargs=local)
    else:
        local = {"num_cpus": workers, "include_dashboard": False}
        runner = package.RayTaskRunner(address=address) if address else package.RayTaskRunner(init_kwargs=local)
    return runner
