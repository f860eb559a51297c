"""Several runs at once, which is not a fault but must do no harm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tests.faults.campaign.fault import Fault
from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.processes import errors
from tests.faults.campaign.testbed import DELAYS
from tests.support.pause_points import Point
from tests.support.processes import Drain, Harness, Outcome

_REDRIVE: dict[str, Any] = {"field": "properties", "set": {"properties": "{}"}}
_REDRIVE_SECONDS = 60


class RunsAtOnce(Fault):
    """Two to four drains of the same streams, and one or two redrives of their quarantine.

    One of the redrives may be killed. At the end another one redrives the rest.
    """

    drains = (2, 4)
    lasting = True

    def prepare(self, series: FaultSeries) -> None:
        self._leg = series
        self._redrives: list[Drain] = []

    def moment(self) -> Point | float:
        return self.rng.uniform(0, 0.5)

    def inject(self, drains: Sequence[Drain]) -> None:
        self._redrives = [self._redrive() for _ in range(self.rng.randint(1, 2))]
        if self.rng.random() < 0.5:
            time.sleep(self.rng.uniform(0.2, 0.8))
            self._redrives[0].kill()

    def heal(self, drains: Sequence[Drain]) -> None:
        outcomes = [redrive.outcome(_REDRIVE_SECONDS) for redrive in [*self._redrives, self._redrive()]]
        self._failed = errors([outcome for outcome in outcomes if outcome.exitcode != -9 or outcome.hung])
        for one in self._leg.produced:
            one.fix()

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return [*errors(outcomes), *self._failed]

    def clean(self) -> None:
        for redrive in self._redrives:
            redrive.kill()

    def _redrive(self) -> Drain:
        harness = Harness(None, DELAYS, self.testbed.prefect_url, log=self.testbed.log, flow="redrive")
        return self._leg.start(self.testbed, harness, **_REDRIVE)
