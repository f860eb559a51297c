"""What Prefect is to find in the environment, set before it is imported."""

from __future__ import annotations

import os


def set_prefect_defaults(quiet: bool = False) -> None:
    """Where no Prefect server is set, Prefect starts one for the occasion.

    That one need not report to its makers; and the first time, when it makes its database, it may take longer than the
    20 s that Prefect gives it. `quiet`: no log but Spillway's own words.
    """
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    if quiet:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
