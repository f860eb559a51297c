"""Nothing is broken: several runs at once."""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.campaign.fault import Fault
from tests.faults.campaign.processes import errors
from tests.faults.points import Point
from tests.faults.processes import Drain, Outcome


class DrainsAtOnce(Fault):
    """Two to four drains of the same streams."""

    drains = (2, 4)
    lasts = (0, 0)

    def moment(self) -> Point | float:
        return 0.0

    def inject(self, drains: Sequence[Drain]) -> None:
        pass  # `redrive` joins them here

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return errors(outcomes)
