"""dlt, the data load tool: a Redis source, and its own destination for PostgreSQL."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import dlt
import pyarrow as pa

from benchmarks.alternatives.rows import Row, Unseen, connect, row_maker
from benchmarks.contenders import Workload

_PAGE = 10_000

_SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("us", "UTC")),
        *((name, pa.string()) for name in ("event_id", "event_type", "user_id", "properties")),
    ]
)

dlt.config["runtime.dlthub_telemetry"] = False
# A run starts at the stream's start: what an earlier one has stored in the database is not asked for.
dlt.config["restore_from_destination"] = False
# Files of so many rows are loaded side by side; without this all rows make one file.
dlt.config["normalize.data_writer.file_max_items"] = 50_000


def dlt_pipeline(workload: Workload) -> Callable[[], None]:
    """Arrow tables, which dlt does not take apart, and the loader format `csv`, which it loads by COPY.

    Straight into `events`: Arrow tables get no `_dlt_*` columns, and CSV leaves uuid and jsonb to the server. dlt's
    other formats cannot: `insert_values` adds its columns, and `parquet` goes through ADBC, for which dlt knows
    neither type. Its bookkeeping, `_dlt_loads` and `_dlt_version`, stays in the schema `public`. It needs no consumer
    group: where it has read to is part of its state. Each file is a transaction.
    """

    def run() -> None:
        with tempfile.TemporaryDirectory() as home:
            pipeline = dlt.pipeline(
                "alternative",
                pipelines_dir=home,
                destination=dlt.destinations.postgres(workload.settings.database),
                dataset_name="public",
            )
            source = dlt.resource(_pages(workload), name="events", write_disposition="append")
            pipeline.run(source, loader_file_format="csv").raise_on_failed_jobs()

    return run


def _pages(workload: Workload) -> Iterator[pa.Table]:
    """All that was added since the last run."""
    state = dlt.current.resource_state("events")
    unseen, make = Unseen(workload), row_maker(workload)
    with connect(workload) as client:
        while found := client.xread({workload.stream: state.get("last", "0")}, count=_PAGE):
            [(_, entries)] = found
            yield table(unseen.of([make(fields) for _, fields in entries]))
            state["last"] = entries[-1][0]


def table(rows: list[Row]) -> pa.Table:
    """`rows` as Arrow columns."""
    columns: list[Any] = [list(column) for column in zip(*rows, strict=True)]
    return pa.table(columns, _SCHEMA)
