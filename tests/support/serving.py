"""`spillway serve` in a process, from when it serves until the block ends."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import BIN
from tests.support.waiting import wait_until


@dataclass
class Serving:
    """The process, and the file with its output."""

    process: subprocess.Popen[bytes]
    log: Path

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=240)


@contextmanager
def serving(
    env: Mapping[str, str], log: Path, *arguments: str, program: Sequence[str] = (str(BIN / "spillway"),)
) -> Iterator[Serving]:
    """Start it, and wait for its message. It is terminated at the end, if it still runs."""
    with log.open("wb") as output:
        command = [*program, "serve", *arguments]
        quick = {**env, "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
        process = subprocess.Popen(command, env=quick, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "serving:" in log.read_text() or process.poll() is not None, shown=log.read_text)
        assert process.poll() is None, log.read_text()
        yield Serving(process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=240)
