"""Faults of Redis."""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.campaign.fault import Fault
from tests.faults.campaign.testbed import FaultTestbed
from tests.support.processes import Drain, Outcome


class KilledAndReloaded(Fault):
    """Redis is killed with SIGKILL, and restarted from its append-only file."""

    lasts = (0, 1)

    @classmethod
    def impossible(cls, testbed: FaultTestbed) -> str | None:
        return None if testbed.engine else "the servers were given by URL: they cannot be stopped here"

    def inject(self, drains: Sequence[Drain]) -> None:
        self.testbed.stop("redis", "kill")

    def heal(self, drains: Sequence[Drain]) -> None:
        self.testbed.start("redis")


class Paused(Fault):
    """Redis does not respond for a while: longer than SPILLWAY_REDIS_TIMEOUT, or shorter."""

    def inject(self, drains: Sequence[Drain]) -> None:
        with self.testbed.redis_client() as client:
            client.client_pause(int(self.rng.uniform(200, 2500)), all=True)


class MemoryLimitReached(Fault):
    """maxmemory is below its usage: Redis accepts no more entries, but still returns those that it has."""

    def inject(self, drains: Sequence[Drain]) -> None:
        self._limit("1mb")

    def heal(self, drains: Sequence[Drain]) -> None:
        self._limit("0")

    def clean(self) -> None:
        self._limit("0")

    def _limit(self, size: str) -> None:
        with self.testbed.redis_client() as client:
            client.config_set("maxmemory", size)

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return [f"reading was not possible: {outcome.error}" for outcome in outcomes if outcome.error]


class ClientsKilled(Fault):
    """CLIENT KILL for all connections of all drains, several times."""

    lasts = (0, 0)

    def inject(self, drains: Sequence[Drain]) -> None:
        with self.testbed.redis_client() as client:
            for other in client.client_list():
                if other["name"] == "spillway":
                    client.client_kill_filter(_id=other["id"])

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return [f"a drain failed: {outcome.error}" for outcome in outcomes if outcome.error]
