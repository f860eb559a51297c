"""A Redis client that is interrupted between two commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

OTHER_DB = 9


class Interrupted:
    """Calls `harm` before command number `at` of the client, counted from now, and `undo` before number `until`.

    A transaction counts as one command: each takes a connection from the pool.
    """

    def __init__(self, client: redis.Redis, at: int, until: int, harm: Callable[[], None], undo: Callable[[], None]):
        self.sent = 0
        self._plan = {at: harm, until: undo}
        pool = client.connection_pool
        get_connection = pool.get_connection

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._count()
            return get_connection(*args, **kwargs)

        pool.get_connection = counted  # type: ignore[method-assign]

    def _count(self) -> None:
        self.sent += 1
        if step := self._plan.pop(self.sent, None):
            step()

    def finish(self) -> None:
        """Call `undo` if only `harm` has been called."""
        if len(self._plan) == 1:
            self._plan.popitem()[1]()
