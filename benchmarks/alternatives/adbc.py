"""A consumer group and polars, which writes through ADBC, Arrow's own database driver."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
from adbc_driver_postgresql import dbapi

from benchmarks.alternatives.rows import Row, Unseen, batches
from benchmarks.contenders import Workload

_BATCH = 5_000

# The driver copies an Arrow value in the binary form of its Arrow type, whatever the column's is: 16 bytes are a
# uuid's form, and this type is what it takes for jsonb. As plain text both would be refused.
_JSON = pl.Extension("arrow.json", pl.String, "")


def adbc(workload: Workload) -> Callable[[], None]:
    """`write_database` into `events` itself; a transaction a batch.

    As fast, within the noise: `adbc_ingest` of an Arrow table, and a temporary table of text with INSERT … SELECT.
    """

    def run() -> None:
        unseen = Unseen(workload)
        with dbapi.connect(workload.settings.database) as connection:
            for rows in batches(workload, _BATCH):
                # It commits by itself.
                frame(unseen.of(rows)).write_database("events", connection, engine="adbc", if_table_exists="append")

    return run


def frame(rows: list[Row]) -> pl.DataFrame:
    """`rows` as columns of the types that the driver can copy."""
    return pl.DataFrame(rows, schema=list(Row._fields), orient="row").with_columns(
        pl.col("event_id").str.replace_all("-", "", literal=True).str.decode("hex"),
        pl.col("properties").ext.to(_JSON),
    )
