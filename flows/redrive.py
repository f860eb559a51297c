"""The Prefect flow `redrive`."""

from __future__ import annotations

from flows.plain import redrive as plain
from flows.runs import prefect_flow, redrive_run_name

redrive = prefect_flow(plain.redrive, __name__, redrive_run_name, retries=0)
