"""The Prefect flow `reconcile`."""

from __future__ import annotations

from flows.plain import reconcile as plain
from flows.runs import prefect_flow, reconcile_run_name

reconcile = prefect_flow(plain.reconcile, __name__, reconcile_run_name)
