"""Faults of the network between a drain and one of the two servers, or Prefect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tests.faults.campaign.fault import Fault
from tests.support.processes import Drain
from tests.support.proxy import Proxy


class Network(Fault):
    """A fault of the network of one server."""

    to_redis: ClassVar[bool]

    @property
    def net(self) -> Proxy:
        return self.testbed.redis_net if self.to_redis else self.testbed.postgres_net

    def heal(self, drains: Sequence[Drain]) -> None:
        self.net.pass_on()


class Cut(Network):
    """For a while, open and new connections are reset, or new ones are refused."""

    def inject(self, drains: Sequence[Drain]) -> None:
        if self.rng.random() < 0.5:
            self.net.cut()
        else:
            self.net.refuse()


class Stalled(Network):
    """For a while nothing gets through, without any error."""

    lasts = (0.3, 3)

    def inject(self, drains: Sequence[Drain]) -> None:
        self.net.stall()


class StalledForGood(Network):
    """Nothing gets through any more, without any error: no drain waits forever."""

    drains = (1, 1)
    lasting = True
    slow = True

    def inject(self, drains: Sequence[Drain]) -> None:
        self.net.stall()


class Slow(Network):
    """For a while the network carries a few kilobytes per second."""

    lasts = (1, 3)

    def inject(self, drains: Sequence[Drain]) -> None:
        self.net.slow(self.rng.uniform(5_000, 200_000))


class CutInReply(Network):
    """Connections are reset in the middle of a reply."""

    def inject(self, drains: Sequence[Drain]) -> None:
        self.net.cut_after(self.rng.randint(1, 100_000 if self.to_redis else 200), "replies")


class CutInRequest(Network):
    """Connections are reset in the middle of a request: for PostgreSQL, of a COPY."""

    def inject(self, drains: Sequence[Drain]) -> None:
        self.net.cut_after(self.rng.randint(1, 300 if self.to_redis else 100_000), "requests")


class PrefectAway(Fault):
    """Prefect's server does not respond for a while."""

    lasts = (0.5, 2)

    def inject(self, drains: Sequence[Drain]) -> None:
        if self.rng.random() < 0.5:
            self.testbed.prefect_net.refuse()
        else:
            self.testbed.prefect_net.cut()

    def heal(self, drains: Sequence[Drain]) -> None:
        self.testbed.prefect_net.pass_on()


class PrefectGone(PrefectAway):
    """Prefect's server is down and does not return while the drain runs."""

    drains = (1, 1)
    lasting = True
    may_linger = 2
    prefect_retries = 1
    limit = 45
