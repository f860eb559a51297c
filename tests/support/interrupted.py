"""A Redis client that is interrupted between two commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

OTHER_DB = 9


class Interrupted:
    """Calls `harm` before command number `at` of the client, counted from now, and `undo` before number `until`."""

    def __init__(self, client: redis.Redis, at: int, until: int, harm: Callable[[], None], undo: Callable[[], None]):
        self.sent = 0
        self._plan = {at: harm, until: undo}
        execute, pipeline = client.execute_command, client.pipeline

        def execute_command(*args: Any, **kwargs: Any) -> Any:
            self._count()
            return execute(*args, **kwargs)

        def counted_pipeline(*args: Any, **kwargs: Any) -> Any:
            made = pipeline(*args, **kwargs)
            run = made.execute

            def execute_pipeline(*args: Any, **kwargs: Any) -> Any:
                self._count()
                return run(*args, **kwargs)

            made.execute = execute_pipeline
            return made

        client.execute_command = execute_command  # type: ignore[method-assign]
        client.pipeline = counted_pipeline  # type: ignore[method-assign]

    def _count(self) -> None:
        self.sent += 1
        if step := self._plan.pop(self.sent, None):
            step()

    def finish(self) -> None:
        """Call `undo` if only `harm` has been called."""
        if len(self._plan) == 1:
            self._plan.popitem()[1]()
