"""A process `spillway serve --every` with a Prefect server of its own, for measurements."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.prefect_server import Server, running_server
from infra.errors.exceptions import Terminal
from infra.settings import Settings

_START_SECONDS = 120
_END_SECONDS = 120
_ENDED = re.compile(r"ended: ([\d,]+) ticks, ([\d,]+) runs, ([\d,]+) late")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Serving:
    """The process, its Prefect server, and the files with their output."""

    process: subprocess.Popen[bytes]
    prefect: Server
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def cpu_seconds(self) -> float:
        """The processor time of the process so far, without its children."""
        return cpu_seconds(self.pid)

    def resident_mb(self) -> float:
        """The resident memory of the process."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def runs(self) -> int:
        """The drains that its Prefect server has recorded, without those that are planned for other deployments."""
        return self.prefect.query("SELECT count(*) FROM flow_run WHERE deployment_id IS NULL")

    def stop(self) -> tuple[int, int, int]:
        """End it with SIGTERM. Returns its ticks, runs and late ticks, from its last line."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(_END_SECONDS)
        found = _ENDED.search(self.log.read_text())
        if found is None:
            raise Terminal(f"spillway serve did not end in order: {self.log.read_text()[-500:]}")
        ticks, runs, late = (int(number.replace(",", "")) for number in found.groups())
        return ticks, runs, late


def cpu_seconds(pid: int) -> float:
    """The processor time of a process so far; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND


@contextmanager
def serving(settings: Settings, every: str, streams: str) -> Iterator[Serving]:
    """`spillway serve --every`, from when it drains until the block ends."""
    with running_server(ours=True) as prefect, TemporaryDirectory() as folder:
        log = Path(folder) / "serve.log"
        own = {
            "SPILLWAY_REDIS_URL": settings.redis,
            "SPILLWAY_DATABASE_URL": settings.database,
            "SPILLWAY_SCHEDULED_STREAMS": streams,
        }
        inherited = {name: value for name, value in prefect.environment.items() if not name.startswith("SPILLWAY_")}
        command = [str(Path(sys.executable).with_name("spillway")), "serve", "--every", every]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, env=inherited | own, cwd=folder, stdout=output, stderr=subprocess.STDOUT
            )
        found = Serving(process, prefect, log)
        try:
            _await_start(process, log)
            yield found
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(_END_SECONDS)


def _await_start(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while "serving:" not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Terminal(f"spillway serve did not start: {log.read_text()[-500:]}")
        time.sleep(0.1)
