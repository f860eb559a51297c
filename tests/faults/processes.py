"""Drains in processes of their own, that can be killed without taking the tests with them."""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from multiprocessing.queues import SimpleQueue
from typing import Any

# Forked from a process that has imported the flow already: a kill then falls into the drain, not into its imports.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["flows.drain"])


class Drain:
    """A drain of `stream` in a process of its own, started at once."""

    def __init__(self, stream: str, env: Mapping[str, str], **parameters: Any) -> None:
        self._results: SimpleQueue[dict[str, Any]] = _CONTEXT.SimpleQueue()
        arguments = (stream, dict(env), parameters, self._results)
        self.process: ForkServerProcess = _CONTEXT.Process(target=_drain, args=arguments)
        self.process.start()

    def finished(self, seconds: float = 120) -> dict[str, Any]:
        """Wait for the result: the drain's own, `peak_bytes` of resident memory, and `error` where it failed."""
        self.process.join(seconds)
        assert self.process.exitcode == 0, f"the drain did not end by itself: {self.process.exitcode}"
        return self._results.get()

    def kill(self) -> None:
        """SIGKILL. Harmless where the drain has ended."""
        self.process.kill()
        self.process.join()


def _drain(stream: str, env: dict[str, str], parameters: dict[str, Any], results: SimpleQueue[dict[str, Any]]) -> None:
    os.environ.update(env)
    from flows.drain import drain
    from infra.settings import settings

    settings.cache_clear()
    try:
        result = drain(stream, **parameters)
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    results.put(result | {"peak_bytes": peak})
