"""What the Prefect flows have in common, and the names of their runs."""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Flow, flow
from prefect.runtime import flow_run

from infra.display import display_name
from infra.errors.exceptions import SpillwayError
from infra.json_lines import use_json_lines

TAG = "spillway"  # of every deployment and every run
SERVE_TAG = "serve"  # of the runs that `spillway serve` starts in its own process
EVERY_TAG = "every:"  # begins a tag of a deployment whose flow `spillway serve` runs in its own process
_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")

P = ParamSpec("P")
R = TypeVar("R")


class _NoTracebacks(logging.Filter):
    """Leaves out the traceback of an error whose text says all, as commands do; `SPILLWAY_DEBUG=1` shows it."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, SpillwayError) and not os.environ.get("SPILLWAY_DEBUG"):
            record.exc_info = None
        return True


_NO_TRACEBACKS = _NoTracebacks()


def prefect_flow(
    function: Callable[P, R], module: str, run_name: Callable[[], str], retries: int | None = None
) -> Flow[P, R]:
    """The flow that runs `function`, with its name, parameters and documentation.

    `module`: where a worker finds the flow. No result is persisted: the ledger records what was done.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        use_json_lines()
        for name in _RUN_LOGGERS:
            logging.getLogger(name).addFilter(_NO_TRACEBACKS)  # once: it is the same object
        return function(*args, **kwargs)

    run.__module__ = module
    # Prefect would look for the types of annotations that are texts in the module of the flow.
    described: Any = run
    described.__signature__ = inspect.signature(function, eval_str=True)
    named: Any = run_name
    return flow(name=function.__name__, flow_run_name=named, retries=retries, persist_result=False)(run)


def drain_run_name() -> str:
    """Such as `drain events-web 10:05`."""
    return _run_name("drain", _streams())


def reconcile_run_name() -> str:
    """Such as `reconcile events-web 04:30`, or `reconcile --deep * 04:30`."""
    return _run_name("reconcile", *_options("deep", "repair"), _streams())


def maintain_run_name() -> str:
    """Such as `maintain 03:15`, or `maintain --dry-run 03:15`."""
    return _run_name("maintain", *_options("dry_run"))


def redrive_run_name() -> str:
    """Such as `redrive events-web 10:05`, or `redrive --dry-run everything 10:05`."""
    return _run_name("redrive", *_options("dry_run"), _some(_listed("stream")) or "everything")


def backfill_run_name() -> str:
    """Such as `backfill history.parquet 10:05`, `backfill archive 10:05` or `backfill --dry-run events-web 10:05`.

    Only the last part of a path or URL is shown: the rest of a URL may hold a secret.
    """
    parameters = flow_run.parameters
    files = [source.rstrip("/").rpartition("/")[2].partition("?")[0] for source in _listed("source")]
    what = "archive" if parameters.get("archive") else parameters.get("stream") or _some(files)
    return _run_name("backfill", *_options("dry_run"), what)


def _run_name(*parts: str) -> str:
    """The parts, and when the run was due (UTC)."""
    return " ".join([*(display_name(part) for part in parts if part), f"{flow_run.scheduled_start_time:%H:%M}"])


def _options(*names: str) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in names if flow_run.parameters.get(name)]


def _streams() -> str:
    return _some(_listed("stream")) or "scheduled streams"


def _listed(parameter: str) -> list[str]:
    """A parameter that is a string, a list of strings, or absent, as a list."""
    value = flow_run.parameters.get(parameter)
    return [value] if isinstance(value, str) and value else list(value or [])


def _some(names: list[str]) -> str:
    """The first of several names, and the number of the others."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "") if names else ""
