"""Run what a flow does: as a run of the user's Prefect server, or without Prefect if there is none."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Literal

from rich.console import Console

from flows.cli.progress_bars import ProgressBars
from flows.environment import set_prefect_defaults
from flows.prefect_server import has_prefect_server
from infra.errors.exceptions import Unsuccessful
from infra.settings import settings

FlowName = Literal["drain", "redrive", "reconcile", "maintain", "backfill"]
Result = dict[str, Any]


def run_flow(
    name: FlowName, /, *, needs_redis: bool = True, verbose: bool = False, **parameters: Any
) -> tuple[Result, Unsuccessful | None]:
    """Run a flow with progress bars. Returns its result, and the error to raise after the result is printed.

    Without a Prefect server of the user's, the steps run here with the same retries, result and report: to start a
    temporary server would take longer than most drains.
    """
    set_prefect_defaults(quiet=not verbose)
    config = settings()  # a wrong setting is reported before anything is started
    if needs_redis:
        _ = config.redis
    bars = ProgressBars(Console(stderr=True))
    if has_prefect_server():
        from flows.cli.prefect_api import as_prefect_run, require_prefect

        require_prefect(needs_redis)
        function, around = _find("flows", name), as_prefect_run()
    else:
        _show_log(verbose)
        function, around = _find("flows.plain", name), ended_in_order()
    try:
        with around, bars.follow():
            return function(**parameters), None
    except Unsuccessful as error:
        return error.result, error


def _find(package: str, name: FlowName) -> Callable[..., Result]:
    function: Callable[..., Result] = getattr(import_module(f"{package}.{name}"), name)
    return function


def _show_log(verbose: bool) -> None:
    """The log of a run without Prefect. Its warnings are printed with the result in any case."""
    logging.basicConfig(format="%(asctime)s | %(levelname)-7s | %(message)s")
    logging.getLogger("spillway").setLevel(logging.INFO if verbose else logging.CRITICAL)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """A block that ends with an exception if the process is to end, so that running loads are still committed.

    A signal that is ignored stays so, such as SIGHUP under nohup.
    """

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    heeded = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
