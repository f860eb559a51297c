"""Faults of a drain that a worker runs."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling

from tests.faults.campaign.fault import Fault
from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.testbed import FaultTestbed
from tests.support.pause_points import Point
from tests.support.processes import Drain, Outcome

_SECONDS = 90  # until a worker has started a run, or Prefect knows that it has ended


class UnderWorker(Fault):
    """The common part: a run of the deployment, in a process of the worker."""

    drains = (0, 0)
    lasts = (0, 0)
    slow = True

    def __init__(self, testbed: FaultTestbed, rng: random.Random) -> None:
        super().__init__(testbed, rng)
        self.run: UUID | None = None
        self._ended = "nothing"

    @classmethod
    def impossible(cls, testbed: FaultTestbed) -> str | None:
        return None if testbed.worker else "there is no worker here"

    def prepare(self, series: FaultSeries) -> None:
        assert self.testbed.worker is not None
        name = self.testbed.worker()
        with self.testbed.prefect_client() as client:
            deployment = client.read_deployment_by_name(name)
            parameters = {"stream": series.streams}
            self.run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id
        self._await(lambda run: run.state is not None and not (run.state.is_scheduled() or run.state.is_pending()))

    def moment(self) -> Point | float:
        return self.rng.uniform(0, 1)

    def heal(self, drains: Sequence[Drain]) -> None:
        run = self._await(lambda run: run.state is not None and run.state.is_final())
        self._ended = run.state_name or "nothing"

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        # It may have finished before the fault.
        ok = self._ended in ("Cancelled", "Crashed", "Completed")
        return [] if ok else [f"the run ended as {self._ended}"]

    def _await(self, wanted: Callable[[FlowRun], bool]) -> FlowRun:
        assert self.run is not None
        deadline = time.monotonic() + _SECONDS
        with self.testbed.prefect_client() as client:
            while not wanted(run := client.read_flow_run(self.run)):
                if time.monotonic() > deadline:
                    raise AssertionError(f"the worker's run is {run.state_name} after {_SECONDS} s")
                time.sleep(0.1)
        return run


class CancelledUnderWorker(UnderWorker):
    """The run is cancelled in Prefect: the worker ends the process."""

    def inject(self, drains: Sequence[Drain]) -> None:
        assert self.run is not None
        with self.testbed.prefect_client() as client:
            client.set_flow_run_state(self.run, Cancelling())


class KilledUnderWorker(UnderWorker):
    """The process is killed with SIGKILL: the worker reports it to Prefect."""

    def inject(self, drains: Sequence[Drain]) -> None:
        for environ in Path("/proc").glob("[0-9]*/environ"):
            # Other processes may end meanwhile.
            with contextlib.suppress(OSError):
                if f"PREFECT__FLOW_RUN_ID={self.run}".encode() in environ.read_bytes():
                    os.kill(int(environ.parent.name), signal.SIGKILL)
