"""`spillway serve`: the schedule in one process, without a work pool or a worker."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic_core import PydanticCustomError

from flows.cli.metrics import check_listen_option
from flows.cli.run import ended_in_order
from flows.environment import set_prefect_defaults
from infra.display import count_of
from infra.errors.exceptions import WrongUse
from infra.output import announce
from infra.setting_values import read_age
from infra.settings import Settings, settings

if TYPE_CHECKING:
    from flows.deployments import Deployment

app = typer.Typer()

# A process for each run costs seconds. More often than this, the serving process drains by itself.
_OWN_PROCESS_FROM = timedelta(minutes=1)


@app.command("serve")
def serve_command(
    every: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Drain in this process at this interval, such as 5s. Default: SPILLWAY_DRAIN_EVERY if below a minute.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="[ADDR:]PORT", help="Export metrics for Prometheus. Default: SPILLWAY_METRICS_LISTEN."),
    ] = None,
) -> None:
    """Run the scheduled flows in this process: no work pool and no worker, for small set-ups."""
    set_prefect_defaults()
    config = settings()
    interval = _interval(every, config)
    listen = config.metrics_listen if metrics is None else metrics
    if listen:
        check_listen_option("serve: --metrics", listen)
    from flows.cli.prefect_api import require_prefect
    from flows.deployments import deployments, serve

    found = deployments(config, interval)
    require_prefect()
    served = config if interval is None else config.model_copy(update={"drain_every": interval})
    with _metrics(served, listen):
        if interval is None:
            with ended_in_order():  # until Prefect's runner has its own handler: process 1 ignores signals without one
                serve(found)
        else:
            _drain_here(config, interval, found)


@contextmanager
def _metrics(config: Settings, listen: str) -> Iterator[None]:
    """Export metrics in this process until the block ends, if `listen` says where."""
    if not listen:
        yield
        return
    from flows.metrics_server import metrics_served

    with metrics_served(config, listen) as url:
        announce(f"metrics: {url}")
        yield


def _interval(every: str | None, config: Settings) -> timedelta | None:
    """The interval of the drain in this process; None if Prefect's schedule starts it. Raises `WrongUse`."""
    if every is None:
        interval = config.drain_every
        return interval if interval is not None and interval < _OWN_PROCESS_FROM else None
    try:
        found = read_age(every)
    except PydanticCustomError as error:
        raise WrongUse(f"serve: --every: {error}, found {every!r}; nothing was started") from None
    if not isinstance(found, timedelta):
        raise WrongUse("serve: --every: expected a positive duration such as 5s or 2m, found none; nothing was started")
    return found


def _drain_here(config: Settings, interval: timedelta, found: list[Deployment]) -> None:
    """Drain in the main thread until a signal; Prefect's runner serves the other deployments in a thread."""
    from prefect.exceptions import TerminationSignal

    from flows.background_runner import BackgroundRunner
    from flows.deployments import served
    from flows.drain_loop import DrainLoop

    _log_steps()
    drain = next(one for one in found if one.full_name == "drain/scheduled")
    with ended_in_order():
        with BackgroundRunner(served(found)), DrainLoop(config, interval.total_seconds(), drain.parameters) as loop:
            for one in found:
                announce(f"{one.full_name:<18}  {one.when}")
            streams = ", ".join(config.scheduled_streams)
            announce(f"serving: {streams} every {interval.total_seconds():g} s, until Ctrl-C or SIGTERM")
            sys.stdout.flush()
            try:
                loop.run_forever()
            except (KeyboardInterrupt, SystemExit, TerminationSignal):
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)  # it is ending
        announce(f"ended: {count_of(loop.ticks, 'tick')}, {count_of(loop.runs, 'run')}, {loop.late:,} late")
    if not loop.prefect_answers:  # at a normal exit Prefect would wait for its server
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _log_steps() -> None:
    """Show the log of the looks, which are no runs of Prefect. Prefect has set up the root's handler."""
    logging.getLogger("spillway").setLevel(logging.INFO)
