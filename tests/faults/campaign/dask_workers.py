"""Drains on the workers of a Dask cluster, and one of these is killed."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tests.faults.campaign.fault import Fault
from tests.faults.campaign.fault_series import PART_ENTRIES, FaultSeries
from tests.faults.campaign.processes import errors
from tests.faults.campaign.testbed import FaultTestbed
from tests.support.pause_points import Point
from tests.support.processes import Drain, Outcome

_BATCH_ROWS = 100
_REACH_SECONDS = 15
_WORKERS = 3
_POINTS = ("in copy", "before commit", "after commit", "after read")  # in the middle of a range


class DaskWorkerKilled(Fault):
    """A worker is killed with SIGKILL in the middle of a range. Dask runs its share again, and the drains succeed."""

    shared = True
    in_prefect = True
    in_a_row = 3
    lasts = (0, 0)

    def __init__(self, testbed: FaultTestbed, rng: random.Random) -> None:
        super().__init__(testbed, rng)
        self._victim: subprocess.Popen[bytes] | None = None

    @classmethod
    def impossible(cls, testbed: FaultTestbed) -> str | None:
        return None if find_spec("prefect_dask") else "it needs spillway[dask]"

    def prepare(self, series: FaultSeries) -> None:
        dask = self.testbed.dask
        env = self.testbed.env | {"SPILLWAY_BATCH_ROWS": str(_BATCH_ROWS)}
        while len(dask.workers) < _WORKERS - 1:
            dask.add_worker(env, part_entries=PART_ENTRIES)
        point = Point(self.rng.choice(_POINTS), self.rng.randint(1, 2))
        self._victim = dask.add_worker(env, point, PART_ENTRIES)
        self.note = str(point)
        dask.await_workers()
        runner = {"SPILLWAY_TASK_RUNNER": f"dask+{dask.address}", "SPILLWAY_DRAIN_WORKERS": str(_WORKERS)}
        self.testbed.environment = {**self.testbed.environment, **runner}

    def moment(self) -> Point | float:
        return 0.0

    def inject(self, drains: Sequence[Drain]) -> None:
        assert self._victim is not None
        stopped = Path(f"/proc/{self._victim.pid}/stat")
        deadline = time.monotonic() + _REACH_SECONDS
        while stopped.read_text().rpartition(")")[2].split()[0] != "T":
            if time.monotonic() > deadline or all(drain.has_result() for drain in drains):
                self.note += ", which never came"
                break
            time.sleep(0.005)
        self.clean()

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return errors(outcomes)

    def clean(self) -> None:
        if self._victim is not None:
            self.testbed.dask.kill(self._victim)
            self._victim = None
        runner = ("SPILLWAY_TASK_RUNNER", "SPILLWAY_DRAIN_WORKERS")
        self.testbed.environment = {k: v for k, v in self.testbed.environment.items() if k not in runner}
