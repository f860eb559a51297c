"""A stream that went back in time, and an operator who accepts that."""

from __future__ import annotations

import random
from collections.abc import Sequence

from infra.connections.clients import Clients
from tasks.ledger.names import accept_rewind
from tests.faults.campaign.fault import Fault
from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.produce import Produced, endless
from tests.faults.campaign.testbed import DELAYS, FaultTestbed
from tests.support.pause_points import Point
from tests.support.processes import Drain, Harness, Outcome

_TAIL_ENTRIES = 300


class RestoredAndAccepted(Fault):
    """One stream is restored from an older copy. Drains refuse until `spillway stream accept-rewind`; nothing is loaded
    twice."""

    drains = (1, 2)
    lasting = True

    def __init__(self, testbed: FaultTestbed, rng: random.Random) -> None:
        super().__init__(testbed, rng)
        self._back: Produced | None = None

    def prepare(self, series: FaultSeries) -> None:
        self._leg = series
        self._back = self.rng.choice(series.produced)
        with self.testbed.redis_client() as client:
            copy, at_copy = client.dump(self._back.stream), set(self._back.entries)
            self._back.send(client, self._fresh())
            before = series.start(
                self.testbed, Harness(None, DELAYS, self.testbed.prefect_url, log=self.testbed.log)
            ).finished()
            if "error" in before:
                raise AssertionError(f"the drain before the rewind failed: {before['error']}")
            client.restore(self._back.stream, 0, copy, replace=True)
        self._renewed = self._back.renewed(at_copy)

    def moment(self) -> Point | float:
        return 0.0

    def inject(self, drains: Sequence[Drain]) -> None:
        pass  # `prepare` has already done it

    def heal(self, drains: Sequence[Drain]) -> None:
        assert self._back is not None
        with Clients(self.testbed.settings) as clients, clients.postgres() as connection:
            old = accept_rewind(connection, self._back.stream)
        self._leg.produced[self._leg.produced.index(self._back)] = self._renewed
        self._back.stream = old
        self._leg.closed.append(self._back)
        with self.testbed.redis_client() as client:
            self._renewed.send(client, self._fresh())

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        wanted = f"stream {self._renewed.stream} went back: its last id is "
        return [
            f"expected that it is refused, found: {outcome.error or 'none'}"
            for outcome in outcomes
            if wanted not in (outcome.error or "") or "nothing was read" not in (outcome.error or "")
        ]

    def _fresh(self) -> list[tuple[dict[bytes, bytes], bool]]:
        return next(endless(self.rng.randrange(1 << 32), _TAIL_ENTRIES))
