"""A Dask scheduler and workers as a user starts them, which a test can kill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from infra.settings import PROJECT_ROOT
from tests.support.dask_preload import PART_ENTRIES, STOP_AT
from tests.support.pause_points import Point
from tests.support.ports import free_port
from tests.support.waiting import wait_until

_START_SECONDS = 120


class DaskCluster:
    """A scheduler at `address`, and the processes of its workers, with one thread each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        port = free_port()
        self.address = f"tcp://127.0.0.1:{port}"
        self.workers: list[subprocess.Popen[bytes]] = []
        command = ("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        self._scheduler = self._start(os.environ, *command)

    def add_worker(
        self, env: Mapping[str, str] | None = None, stop_at: Point | None = None, part_entries: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a worker. `env`: its environment, if it is not ours. `stop_at`: where it stops itself.

        `part_entries`: entries of a part of a stream that several runs share, at least.
        """
        own = dict(os.environ if env is None else env)
        if part_entries:
            own[PART_ENTRIES] = str(part_entries)
        if stop_at:
            own[STOP_AT] = f"{stop_at.where};{stop_at.time}"
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--preload", "tests.support.dask_preload"]
        worker = self._start(own, "worker", self.address, *options, "--local-directory", str(self._folder))
        self.workers.append(worker)
        return worker

    def await_workers(self) -> None:
        """Wait until the scheduler knows all workers that run."""
        from distributed import Client

        def workers() -> int:
            return len(client.scheduler_info(n_workers=-1)["workers"])

        with Client(self.address, timeout=_START_SECONDS, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            wait_until(lambda: workers() == len(self.workers))

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """End a worker at once."""
        worker.kill()
        worker.wait()
        self.workers.remove(worker)

    def close(self) -> None:
        """End everything."""
        for worker in list(self.workers):
            self.kill(worker)
        self._scheduler.kill()
        self._scheduler.wait()

    def _start(self, env: Mapping[str, str], *command: str) -> subprocess.Popen[bytes]:
        with (self._folder / "dask.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *command], cwd=PROJECT_ROOT, env=env, stdout=log, stderr=log
            )


@contextmanager
def dask_cluster(folder: Path) -> Iterator[DaskCluster]:
    """A cluster that has no worker yet."""
    cluster = DaskCluster(folder)
    try:
        yield cluster
    finally:
        cluster.close()
