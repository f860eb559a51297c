"""`spillway serve` in a process, from when it serves until the block ends."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import BIN


@dataclass
class Serving:
    """The process, and the file with its output."""

    process: subprocess.Popen[bytes]
    log: Path

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=90)


@contextmanager
def serving(env: Mapping[str, str], log: Path, *arguments: str) -> Iterator[Serving]:
    """Start it, and wait for its message. It is terminated at the end, if it still runs."""
    with log.open("wb") as output:
        command = [BIN / "spillway", "serve", *arguments]
        quick = {**env, "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
        process = subprocess.Popen(command, env=quick, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "serving:" in log.read_text() or process.poll() is not None, 120, log)
        assert process.poll() is None, log.read_text()
        yield Serving(process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=90)


def wait_until(condition: Callable[[], bool], seconds: float, log: Path) -> None:
    """Wait for a condition to come true; if it does not, show the output."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.1)
