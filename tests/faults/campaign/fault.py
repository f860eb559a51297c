"""What a fault is: something that is done to the world in the midst of a drain, and undone."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from tests.faults.campaign.leg import Leg
from tests.faults.campaign.world import World
from tests.support.pause_points import FREQUENT, POINTS, Point
from tests.support.processes import Drain, Outcome

# A drain of the campaign lives for about so long where nothing disturbs it.
LIFE_SECONDS = 0.8
_LATEST_TIME = 4  # of a frequent point


class Fault(ABC):
    """One fault, in the order in which its methods are called. All dice are thrown with `dice`: a seed replays it.

    `inject` makes it one; of the rest a fault has what it needs.
    """

    # Whether it takes so long that it is done less often.
    slow: ClassVar[bool] = False
    # Where a process may live on after it told its result, for Prefect to try again what it has for its server: how
    # many seconds of it are waited for.
    may_linger: ClassVar[float | None] = None
    # How often a drain tries to reach Prefect's server again; None for as often as usual, over about a minute.
    prefect_retries: ClassVar[int | None] = None
    # How many drains run at once, at least and at most.
    drains: ClassVar[tuple[int, int]] = (1, 2)
    # Whether the first drain, held still at its point, stays so until `heal`.
    holds: ClassVar[bool] = False
    # Whether it is undone only when the drains have ended.
    lasting: ClassVar[bool] = False
    # How long it lasts, in seconds.
    lasts: ClassVar[tuple[float, float]] = (0.2, 1.2)
    # Whether what it leaves is not what a fault after it on the same streams would expect.
    ends_leg: ClassVar[bool] = False
    # How long drains may go on after it has been undone, in seconds.
    limit: ClassVar[float] = 60

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world = world
        self.dice = dice

    @classmethod
    def impossible(cls, world: World) -> str | None:
        """Why it cannot be done to this world, None where it can."""
        return None

    def prepare(self, leg: Leg) -> None:  # noqa: B027
        """Before the drains start. What is to be drained has been sent."""

    def moment(self) -> Point | float:
        """When to inject it: at a point of the first drain, or so many seconds after its start."""
        return any_point(self.dice) if self.dice.random() < 0.5 else any_time(self.dice)

    @abstractmethod
    def inject(self, drains: Sequence[Drain]) -> None:
        """Do the harm."""

    def heal(self, drains: Sequence[Drain]) -> None:  # noqa: B027
        """Undo it."""

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        """What is wrong with how the drains ended."""
        return []

    def clean(self) -> None:  # noqa: B027
        """After everything, whatever went wrong: undo `prepare`."""


def any_point(dice: random.Random, among: Sequence[str] = POINTS) -> Point:
    """A point of a drain, by the dice."""
    where = dice.choice(among)
    return Point(where, dice.randint(1, _LATEST_TIME) if where in FREQUENT else 1)


def any_time(dice: random.Random) -> float:
    """A moment in the life of a drain, by the dice."""
    return dice.uniform(0, LIFE_SECONDS)
