"""Many streams that two to four drains share: a large one in parts, and small ones in transactions of several."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from infra.producers.broken import Entry
from tests.faults.campaign.fault_series import PART_ENTRIES, FaultSeries
from tests.faults.campaign.kinds import KINDS
from tests.faults.campaign.produce import Produced, endless
from tests.faults.campaign.testbed import DELAYS, FaultTestbed
from tests.support.processes import Drain, Harness

FEWEST, MOST = 2, 4  # drains at once
# Of one fault: of the large stream, and of each small one.
_LARGE_ENTRIES, _SMALL_ENTRIES = 2_000, 20
_SMALL_STREAMS = 9
_SECONDS = 60

# Not those whose drains are run by a worker, that need one drain, or that another oracle judges.
_OTHERS = ("worker-", "two-databases", "redis-replica-promoted")
SHARED_KINDS = tuple(kind for kind in KINDS if not kind.startswith(_OTHERS))


@dataclass
class SharedSeries(FaultSeries):
    """A large stream and small ones. `workers`: the most drains at once."""

    batch_rows: ClassVar[tuple[int, int]] = (60, 150)
    head_start: ClassVar[bool] = True
    # With a Prefect server of the user's own and without.
    flows: ClassVar[Sequence[str]] = ("drain", "plain.drain", "plain.drain")

    workers: int = MOST
    _small: Iterator[list[tuple[Entry, bool]]] = field(init=False)

    def __post_init__(self) -> None:
        self.produced = [Produced(f"{self.name}-large"), *self._small_ones()]
        self._source = endless(self.seed, _LARGE_ENTRIES)
        self._small = endless(self.seed + (1 << 33), _SMALL_ENTRIES)

    def _small_ones(self) -> list[Produced]:
        return [Produced(f"{self.name}-{number}") for number in range(_SMALL_STREAMS)]

    def produce(self, testbed: FaultTestbed) -> None:
        if not self.produced[0].entries:
            # Only streams that were drained before can be small.
            self._send(testbed, self.produced[1:])
            self.start(testbed, _plain(testbed, "drain")).finished()
        self._send(testbed, self.produced)

    def _send(self, testbed: FaultTestbed, streams: list[Produced]) -> None:
        for one in streams:
            with testbed.redis_of(one.stream) as client:
                one.send(client, next(self._source if one is self.produced[0] else self._small))

    def count_drains(self, rng: random.Random, least: int, most: int) -> tuple[int, int]:
        count = rng.randint(FEWEST, self.workers)
        return count, rng.randint(1, count - 1)

    def start(self, testbed: FaultTestbed, harness: Harness, batch_rows: int = 100, **parameters: Any) -> Drain:
        return super().start(testbed, replace(harness, part_entries=PART_ENTRIES), batch_rows, **parameters)

    def check(self, testbed: FaultTestbed) -> list[str]:
        error = self.start(testbed, _plain(testbed, "reconcile")).outcome(_SECONDS).error
        return [f"reconcile: {error}"] if error else []


def _plain(testbed: FaultTestbed, flow: str) -> Harness:
    """For a flow without Prefect, which starts sooner."""
    return Harness(None, DELAYS, log=testbed.log, flow=f"plain.{flow}")
