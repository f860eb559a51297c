"""A replica that entries are read from. It only saves the primary work: whatever it cannot do, the primary does."""

from __future__ import annotations

import time

import redis

_BEHIND_SECONDS = 5.0  # for which a replica that is behind is not asked again


class Replica:
    """The client of a replica, for one run. All of the run's readers share it.

    `warnings`: why the primary was read instead, as far as it was; the first time of each kind.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._answers = True
        self._ask_again: float | None = None
        self.warnings: list[str] = []

    @property
    def is_usable(self) -> bool:
        """Whether to ask it now."""
        return self._answers and (self._ask_again is None or time.monotonic() >= self._ask_again)

    def failed(self, reason: str) -> None:
        """It does not answer, so it is not asked again in this run."""
        self._warn(f"does not answer: {reason}")
        self._answers = False

    def is_behind(self, reason: str) -> None:
        """It lacks what the primary has, so it is asked again in some seconds."""
        if self._ask_again is None:
            self._warn(f"is behind: {reason}")
        self._ask_again = time.monotonic() + _BEHIND_SECONDS

    def _warn(self, what: str) -> None:
        self.warnings.append(f"the replica of SPILLWAY_READ_FROM {what}; the primary was read instead")
