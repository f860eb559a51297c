"""What Prefect is to find in the environment, set before it is imported."""

from __future__ import annotations

import os

# Prefect's server writes each state of a task run into its database by itself, which is half of its processor time: it
# is to write many at once, after a second at the latest.
SERVER_WRITES_MANY = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}


def set_prefect_defaults(quiet: bool = False) -> None:
    """Where no Prefect server is set, Prefect starts one for the occasion.

    That one need not report to its makers, and writes many task runs at once; and the first time, when it makes its
    database, it may take longer than the 20 s that Prefect gives it. `quiet`: no log but Spillway's own words.
    """
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    for name, value in SERVER_WRITES_MANY.items():
        os.environ.setdefault(name, value)
    if quiet:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
