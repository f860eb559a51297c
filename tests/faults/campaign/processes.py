"""Faults of the drain's process."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.states import Cancelled, Cancelling, Crashed

from tests.faults.campaign.fault import Fault, any_point
from tests.support.pause_points import Point
from tests.support.processes import Drain, Outcome


class Killed(Fault):
    """The drain is killed with SIGKILL."""

    def inject(self, drains: Sequence[Drain]) -> None:
        for drain in drains[: self.hit]:
            drain.kill()

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return errors(outcomes[self.hit :])


class Terminated(Fault):
    """The drain gets SIGTERM, and ends by itself in time."""

    def inject(self, drains: Sequence[Drain]) -> None:
        for drain in drains[: self.hit]:
            drain.terminate()

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return errors(outcomes[self.hit :])


class Stopped(Fault):
    """The drain gets SIGSTOP and later SIGCONT, as on a machine that slept. The other drains do the work, or wait."""

    holds = True
    lasts = (0.3, 4)  # up to longer than a transaction may be idle

    def inject(self, drains: Sequence[Drain]) -> None:
        for drain in drains[: self.hit]:
            drain.stop()

    def heal(self, drains: Sequence[Drain]) -> None:
        for drain in drains[: self.hit]:
            drain.go_on()

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return errors(outcomes[self.hit :])


class CancelledByHand(Fault):
    """Cancelled in Prefect's UI without a worker: the process is not informed, and may finish."""

    def inject(self, drains: Sequence[Drain]) -> None:
        assert drains[0].harness.name is not None
        self.testbed.set_state(drains[0].harness.name, self.rng.choice([Cancelling(), Cancelled()]))


class CrashedAndGoesOn(Fault):
    """A paused drain is declared crashed, another run drains the stream, and then the first one continues."""

    drains = (2, 2)
    holds = True

    def moment(self) -> Point | float:
        return any_point(self.rng)

    def inject(self, drains: Sequence[Drain]) -> None:
        assert drains[0].harness.name is not None
        self.testbed.set_state(drains[0].harness.name, Crashed())
        # The other run waits until the first one's transaction times out, and then gets the rows.
        drains[1].process.join(self.rng.uniform(0.3, 4))

    def heal(self, drains: Sequence[Drain]) -> None:
        drains[0].go_on()

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return errors(outcomes[1:])


def errors(outcomes: Sequence[Outcome]) -> list[str]:
    """The errors of the drains that were not disturbed."""
    return [
        f"a drain that was not disturbed failed: {outcome.error or f'it ended with {outcome.exitcode}'}"
        for outcome in outcomes
        if outcome.error or outcome.exitcode
    ]
