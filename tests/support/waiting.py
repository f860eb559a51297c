"""Waiting for what should happen. The patience is for a busy machine: no test measures time with it."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], object],
    seconds: float = 120,
    *,
    shown: Callable[[], object] = lambda: "",
    every: float = 0.1,
) -> None:
    """Ask `every` so many seconds until `condition` holds. `shown`: what the failure shows, such as a log."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s; {shown()}"
        time.sleep(every)
