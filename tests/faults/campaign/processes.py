"""Harm done to the process of a drain."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.states import Cancelled, Cancelling, Crashed

from tests.faults.campaign.fault import Fault, any_point
from tests.support.pause_points import Point
from tests.support.processes import Drain, Outcome


class Killed(Fault):
    """SIGKILL."""

    def inject(self, drains: Sequence[Drain]) -> None:
        drains[0].kill()

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return errors(outcomes[1:])


class Terminated(Fault):
    """SIGTERM: it ends by itself, and in time."""

    def inject(self, drains: Sequence[Drain]) -> None:
        drains[0].terminate()

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return errors(outcomes[1:])


class Stopped(Fault):
    """SIGSTOP, and after a while SIGCONT, as of a machine that slept. The other drains do the work, or wait."""

    holds = True
    lasts = (0.3, 4)  # in the end, longer than a transaction may stand idle

    def inject(self, drains: Sequence[Drain]) -> None:
        drains[0].stop()

    def heal(self, drains: Sequence[Drain]) -> None:
        drains[0].go_on()

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return errors(outcomes[1:])


class CancelledByHand(Fault):
    """Cancelled by hand in Prefect, where no worker runs it: nobody tells the process, which may go on and finish."""

    def inject(self, drains: Sequence[Drain]) -> None:
        assert drains[0].harness.name is not None
        self.world.set_state(drains[0].harness.name, self.dice.choice([Cancelling(), Cancelled()]))


class CrashedAndGoesOn(Fault):
    """Declared crashed while it stands still; another run drains in its place; then it goes on."""

    drains = (2, 2)
    holds = True

    def moment(self) -> Point | float:
        return any_point(self.dice)

    def inject(self, drains: Sequence[Drain]) -> None:
        assert drains[0].harness.name is not None
        self.world.set_state(drains[0].harness.name, Crashed())
        # The other one has until the statement timeout of the first one's transaction: then it gets the rows.
        drains[1].process.join(self.dice.uniform(0.3, 4))

    def heal(self, drains: Sequence[Drain]) -> None:
        drains[0].go_on()

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return errors(outcomes[1:])


def errors(outcomes: Sequence[Outcome]) -> list[str]:
    """What drains say to which nothing was done."""
    return [
        f"a drain beside it failed: {outcome.error or f'it ended with {outcome.exitcode}'}"
        for outcome in outcomes
        if outcome.error or outcome.exitcode
    ]
