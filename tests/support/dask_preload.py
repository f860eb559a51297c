"""What a Dask worker does at its start, if it has the option `--preload tests.support.dask_preload`."""

from __future__ import annotations

import os

import prefect.task_engine  # noqa: F401  # these take seconds, for which a task need not wait
import prefect_dask  # noqa: F401

import flows.loads.shares  # noqa: F401  # its steps must be known
from tests.support import pause_points

PART_ENTRIES = "TEST_PART_ENTRIES"
STOP_AT = "TEST_STOP_AT"  # `WHERE;TIME` of a point


def dask_setup(_worker: object) -> None:
    """Called by Dask before the first task."""
    if entries := os.environ.get(PART_ENTRIES):
        pause_points.shrink_claims(int(entries))
    if point := os.environ.get(STOP_AT):
        where, _, time = point.partition(";")
        pause_points.stop_at_point(pause_points.Point(where, int(time)))
