"""Prefect's runner in a thread, so that the main thread can drain. It starts a process for each run that comes due."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import TimeoutError as NotInTime
from typing import Any

from prefect.deployments.runner import RunnerDeployment
from prefect.logging import get_logger
from prefect.runner import Runner

from infra.errors.redact import one_line

_AGAIN_SECONDS = 10.0  # the pause before a runner that an outage of Prefect's server ended is started again
_START_SECONDS = 10.0  # the longest wait for a runner that was told to stop while it starts
_STOP_SECONDS = 60.0  # the longest wait for its runs to be cancelled and its deployments to be paused


class BackgroundRunner:
    """Serves deployments until the block ends. An outage of Prefect's server does not end it."""

    def __init__(self, served: list[RunnerDeployment]) -> None:
        self._served = served
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner = self._registered()
        self._thread = threading.Thread(target=self._run, name="prefect runner", daemon=True)

    def __enter__(self) -> BackgroundRunner:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._await_start()
        if self._loop is not None and self._runner.started:
            try:
                asyncio.run_coroutine_threadsafe(self._runner.astop(), self._loop).result(_STOP_SECONDS)
            except (NotInTime, RuntimeError) as error:  # it ended meanwhile, or Prefect does not answer
                get_logger("serve").warning("the runner did not stop in order: %s", one_line(error))
        self._thread.join(_STOP_SECONDS)

    def _await_start(self) -> None:
        """A runner that is just starting cannot be stopped, and would never end: wait until it can."""
        deadline = time.monotonic() + _START_SECONDS
        while self._thread.is_alive() and not self._runner.started and time.monotonic() < deadline:
            time.sleep(0.05)

    def _registered(self) -> Runner:
        """A runner whose deployments are registered. Raises what Prefect's client raises."""
        runner = Runner()
        for one in self._served:
            added: Any = runner.add_deployment(one)
            del added
        return runner

    def _run(self) -> None:
        while True:
            try:
                asyncio.run(self._start())
            except Exception as error:
                reason = one_line(error)
                get_logger("serve").error("the runner ended, it starts again in %g s: %s", _AGAIN_SECONDS, reason)
            while True:
                if self._stopping.wait(_AGAIN_SECONDS):
                    return
                try:
                    self._runner = self._registered()
                    break
                except Exception as error:
                    get_logger("serve").error("the Prefect server does not answer: %s", one_line(error))

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._runner.start()
