"""The interface of a fault: something that is done to the servers or processes during a drain, and undone."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from tests.faults.campaign.leg import Leg
from tests.faults.campaign.world import World
from tests.support.pause_points import FREQUENT, POINTS, Point
from tests.support.processes import Drain, Outcome

# Seconds that an undisturbed drain of the campaign takes, about.
LIFE_SECONDS = 0.8
_LATEST_TIME = 4  # passes of a frequent point


class Fault(ABC):
    """One fault. The methods are listed in the order of their calls; all randomness comes from `dice`, so that a seed
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
    # Whether the first drain stays stopped at its point until `heal`.
    holds: ClassVar[bool] = False
    # Whether it lasts until the drains have ended.
    lasting: ClassVar[bool] = False
    # How long it lasts, in seconds.
    lasts: ClassVar[tuple[float, float]] = (0.2, 1.2)
    # Whether it leaves the streams in a state that later faults do not expect.
    ends_leg: ClassVar[bool] = False
    # How long drains may run after it has been undone, in seconds.
    limit: ClassVar[float] = 60

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world = world
        self.dice = dice

    @classmethod
    def impossible(cls, world: World) -> str | None:
        """Why it cannot be injected here; None if it can."""
        return None

    def prepare(self, leg: Leg) -> None:  # noqa: B027
        """Prepare it, before the drains start. The entries have already been added."""

    def moment(self) -> Point | float:
        """When to inject it: at a point of the first drain, or some seconds after its start."""
        return any_point(self.dice) if self.dice.random() < 0.5 else any_time(self.dice)

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


def any_point(dice: random.Random, among: Sequence[str] = POINTS) -> Point:
    """A random point of a drain."""
    where = dice.choice(among)
    return Point(where, dice.randint(1, _LATEST_TIME) if where in FREQUENT else 1)


def any_time(dice: random.Random) -> float:
    """A random moment of a drain, in seconds after its start."""
    return dice.uniform(0, LIFE_SECONDS)
