"""What one would write or take instead of Spillway, each from a full stream to committed rows in `events`.

Written as their own documentation advises, on one connection to the database (dlt decides for itself). None of them
has a ledger or a quarantine: an entry that is no event ends the run. They need the extra `bench`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.alternatives.adbc import adbc
from benchmarks.alternatives.dlt_pipeline import dlt_pipeline
from benchmarks.alternatives.executemany import executemany
from benchmarks.alternatives.to_sql import to_sql
from benchmarks.alternatives.write_row import write_row
from benchmarks.contenders import Workload

ALTERNATIVES: Mapping[str, Callable[[Workload], Callable[[], None]]] = {
    "consumer group + executemany": executemany,
    "psycopg write_row": write_row,
    "pandas to_sql": to_sql,
    "polars/ADBC": adbc,
    "dlt": dlt_pipeline,
}
