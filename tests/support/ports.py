"""Ports for the servers of tests."""

from __future__ import annotations

import os
import random
import socket

_RANGE = (20_000, 30_000)  # below the ports that the kernel uses for outgoing connections
_RANDOM = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens.

    It may be used long after it was chosen, so neither this process nor another worker of pytest-xdist gets it again.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = _RANDOM.randrange(_RANGE[0] + worker, _RANGE[1], max(workers, worker + 1))
        with socket.socket() as probe:
            if port not in _given and probe.connect_ex(("127.0.0.1", port)):
                _given.add(port)
                return port
