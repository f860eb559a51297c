"""The interface of a fault: something that is done to the servers or processes during a drain, and undone."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.testbed import FaultTestbed
from tests.support.pause_points import FREQUENT, POINTS, Point
from tests.support.processes import Drain, Outcome

# Seconds that an undisturbed drain of the campaign takes, about.
LIFE_SECONDS = 0.8
_LATEST_TIME = 4  # passes of a frequent point


class Fault(ABC):
    """One fault. The methods are listed in the order of their calls; all randomness comes from `rng`, so that a seed
    replays it.

    A fault implements `inject`, and of the others those that it needs.
    """

    # Whether it takes long and is injected less often.
    slow: ClassVar[bool] = False
    # How many seconds a process may run on after its result, if Prefect still retries requests to its server.
    may_linger: ClassVar[float | None] = None
    # How often a drain retries a request to Prefect's server; None is the default, about a minute.
    prefect_retries: ClassVar[int | None] = None
    # How many drains run at once, at least and at most.
    drains: ClassVar[tuple[int, int]] = (1, 2)
    # Whether it is only for streams that several drains share (`SharedSeries`).
    shared: ClassVar[bool] = False
    # Whether each drain must be a run of Prefect.
    in_prefect: ClassVar[bool] = False
    # Whether it needs streams in a Redis Cluster.
    on_cluster: ClassVar[bool] = False
    # How often in a row it is injected in each round of a campaign.
    in_a_row: ClassVar[int] = 1
    # Whether the first drain stays stopped at its point until `heal`.
    holds: ClassVar[bool] = False
    # Whether it lasts until the drains have ended.
    lasting: ClassVar[bool] = False
    # How long it lasts, in seconds.
    lasts: ClassVar[tuple[float, float]] = (0.2, 1.2)
    # Whether it leaves the streams in a state that later faults do not expect.
    ends_series: ClassVar[bool] = False
    # How long drains may run after it has been undone, in seconds.
    limit: ClassVar[float] = 60

    def __init__(self, testbed: FaultTestbed, rng: random.Random) -> None:
        self.testbed = testbed
        self.rng = rng
        self.hit = 1  # how many of the drains it hits, if it hits processes: the first ones
        self.note = ""  # what else the report says about the moment

    @classmethod
    def impossible(cls, testbed: FaultTestbed) -> str | None:
        """Why it cannot be injected here; None if it can."""
        return None

    def prepare(self, series: FaultSeries) -> None:  # noqa: B027
        """Prepare it, before the drains start. The entries have already been added."""

    def moment(self) -> Point | float:
        """When to inject it: at a point of the first drain, or some seconds after its start."""
        return any_point(self.rng) if self.rng.random() < 0.5 else any_time(self.rng)

    @abstractmethod
    def inject(self, drains: Sequence[Drain]) -> None:
        """Inject the fault."""

    def heal(self, drains: Sequence[Drain]) -> None:  # noqa: B027
        """Undo it."""

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        """What is wrong with the outcomes of the drains."""
        return []

    def clean(self) -> None:  # noqa: B027
        """Undo `prepare`, also after an error."""


def any_point(rng: random.Random, among: Sequence[str] = POINTS) -> Point:
    """A random point of a drain."""
    where = rng.choice(among)
    return Point(where, rng.randint(1, _LATEST_TIME) if where in FREQUENT else 1)


def any_time(rng: random.Random) -> float:
    """A random moment of a drain, in seconds after its start."""
    return rng.uniform(0, LIFE_SECONDS)
