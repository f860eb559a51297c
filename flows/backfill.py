"""The Prefect flow `backfill`."""

from __future__ import annotations

from flows.plain import backfill as plain
from flows.runs import backfill_run_name, prefect_flow

backfill = prefect_flow(plain.backfill, __name__, backfill_run_name)
