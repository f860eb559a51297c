"""The Prefect flow `maintain`."""

from __future__ import annotations

from flows.plain import maintain as plain
from flows.runs import maintain_run_name, prefect_flow

maintain = prefect_flow(plain.maintain, __name__, maintain_run_name)
