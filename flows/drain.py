"""The Prefect flow `drain`."""

from __future__ import annotations

from flows.plain import drain as plain
from flows.runs import drain_run_name, prefect_flow

# Never retried as a whole, whatever Prefect's settings say: a second run would not find the losses of the first.
drain = prefect_flow(plain.drain, __name__, drain_run_name, retries=0)
