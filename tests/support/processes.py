"""Drains in child processes, which a test can kill."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.pause_points import Point

# Forked from a process that has already imported the flow, so that a kill hits the drain and not its imports.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["flows.drain", "flows.redrive", "flows.backfill", "tests.support.pause_points"])


@dataclass(frozen=True)
class Outcome:
    """How a drain ended. `hung`: it did not end in time and was killed. `result` is empty if the process sent none."""

    exitcode: int | None
    hung: bool
    seconds: float
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def error(self) -> str | None:
        """The exception of the flow as `Class: message`. None if it raised none, or if the process sent no result."""
        return self.result.get("error")

    @property
    def messages(self) -> list[str]:
        """Everything that an operator reads: the error, the warnings and the reasons for retries."""
        return [*([self.error] if self.error else []), *self.result.get("retries", [])]


@dataclass(frozen=True)
class Harness:
    """How a test runs a drain's process.

    `point`: where it stops. `delays`: seconds between attempts of a step. `api`: the Prefect server, if not that of the
    environment. `name`: of the flow run. `log`: a file for the output. `flow`: its module below `flows`.
    `prefect_retries`: retries of each request to Prefect's server, after 2, 4, 8 … s. `part_entries`: entries of a part
    of a stream that several drains share, at least; see `pause_points.shrink_claims`.
    """

    point: Point | None = None
    delays: list[float] | None = None
    api: str | None = None
    name: str | None = None
    log: Path | None = None
    flow: str = "drain"
    prefect_retries: int | None = None
    part_entries: int | None = None


class Drain:
    """A drain of `stream` in a child process, which starts at once."""

    def __init__(
        self, stream: str | list[str], /, env: Mapping[str, str], harness: Harness = Harness(), **parameters: Any
    ) -> None:
        self.harness = harness
        self._results, sender = _CONTEXT.Pipe(duplex=False)
        arguments = (stream, dict(env), harness, parameters, sender)
        self.process: ForkServerProcess = _CONTEXT.Process(target=_drain, args=arguments)
        self._began = time.monotonic()
        self.process.start()
        sender.close()  # so that the pipe ends when the process ends

    @property
    def pid(self) -> int:
        pid = self.process.pid
        assert pid is not None  # it was started
        return pid

    def finished(self, seconds: float = 240) -> dict[str, Any]:
        """Wait for the result: that of the drain, `peak_bytes` of resident memory, and `error` if it failed."""
        outcome = self.outcome(seconds)
        assert outcome.exitcode == 0, f"the drain did not end by itself: {outcome}"
        return outcome.result

    def outcome(self, seconds: float, after_result: float | None = None) -> Outcome:
        """Wait `seconds` for the process to end, then kill it. With the second limit, wait only that long after its
        result."""
        deadline = time.monotonic() + seconds
        result: dict[str, Any] = {}
        if self._results.poll(seconds):
            with contextlib.suppress(EOFError):  # it ended without a result
                result = self._results.recv()
        left = max(0, deadline - time.monotonic())
        self.process.join(left if after_result is None else min(left, after_result))
        hung = self.process.exitcode is None
        self.kill()
        return Outcome(self.process.exitcode, hung, time.monotonic() - self._began, result)

    def reached(self, seconds: float = 240) -> bool:
        """Wait until it stops at its point. False if it ended or did not get there in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.is_alive():
            if self.state() == "T":
                return True
            time.sleep(0.005)
        return False

    def has_result(self) -> bool:
        """Whether it has sent its result, or ended."""
        return self._results.poll(0)

    def state(self) -> str:
        """The state letter of /proc: R and S if it runs, T if it is stopped; empty if it has ended."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return ""

    def stop(self) -> None:
        """Send SIGSTOP: it stops until `go_on`."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Send SIGCONT. Harmless if it runs."""
        self._signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Send SIGTERM, as a service manager or a worker would. A stopped process gets it when it continues."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL. Harmless if the drain has ended."""
        self.process.kill()
        self.process.join()

    def _signal(self, number: signal.Signals) -> None:
        # `is_alive` first: a pid that is free may belong to another process by now.
        if self.process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _drain(
    stream: str | list[str], env: dict[str, str], harness: Harness, parameters: dict[str, Any], results: Connection
) -> None:
    # Replace the whole environment: the fork server still has that of the first test that used it.
    os.environ.clear()
    os.environ.update(env)
    if harness.log:
        with harness.log.open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_CLIENT_MAX_RETRIES,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )

    from flows.cli.prefect_api import translate_prefect_errors
    from infra.settings import settings
    from tasks.base.progress import ProgressEvent, Retry, subscribe
    from tests.support import pause_points

    settings.cache_clear()
    if harness.delays:
        pause_points.shorten_retries(harness.delays)
    if harness.part_entries:
        pause_points.shrink_claims(harness.part_entries)
    if harness.point:
        pause_points.stop_at_point(harness.point)
    retries: list[str] = []

    def note(progress: ProgressEvent) -> None:
        if isinstance(progress, Retry):
            retries.append(progress.reason)
            if harness.log:
                print(f"retry: {progress.reason}", flush=True)

    run = getattr(importlib.import_module(f"flows.{harness.flow}"), harness.flow.rpartition(".")[2])
    if harness.name and hasattr(run, "with_options"):  # not if it is run without Prefect
        run = run.with_options(flow_run_name=harness.name)
    wanted: dict[Any, Any] = {PREFECT_API_URL: harness.api} if harness.api else {}
    if harness.delays:
        wanted[PREFECT_FLOWS_HEARTBEAT_FREQUENCY] = None  # Prefect waits up to a second for its thread at the end
    if harness.prefect_retries is not None:
        wanted[PREFECT_CLIENT_MAX_RETRIES] = harness.prefect_retries
    with temporary_settings(wanted), subscribe(note):
        try:
            with translate_prefect_errors():
                result = run(stream, **parameters)
        except Exception as error:
            result = getattr(error, "result", {}) | {"error": f"{type(error).__name__}: {error}"}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    results.send(result | {"peak_bytes": peak, "retries": retries})
