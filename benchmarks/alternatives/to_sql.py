"""A consumer group and pandas: `DataFrame.to_sql` with the COPY method of pandas' own documentation."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
from sqlalchemy import Connection, create_engine, make_url

from benchmarks.alternatives.rows import Row, Unseen, batches
from benchmarks.contenders import Workload

_BATCH = 5_000


def to_sql(workload: Workload) -> Callable[[], None]:
    """A data frame and a transaction a batch.

    Text goes as CSV, where an empty one would become a null and be refused; the data has none.
    """

    def run() -> None:
        unseen = Unseen(workload)
        # The documented method calls psycopg2's copy_expert, and SQLAlchemy 2.1 would take psycopg 3.
        engine = create_engine(make_url(workload.settings.database).set(drivername="postgresql+psycopg2"))
        for rows in batches(workload, _BATCH):
            frame = pd.DataFrame(unseen.of(rows), columns=list(Row._fields))
            with engine.begin() as connection:
                frame.to_sql("events", connection, if_exists="append", index=False, method=psql_insert_copy)
        engine.dispose()

    return run


def psql_insert_copy(table: Any, connection: Connection, keys: list[str], data: Iterable[tuple[Any, ...]]) -> None:
    """Insert by COPY: the "example of a callable using PostgreSQL COPY clause" of pandas' user guide."""
    cursor: Any = connection.connection.cursor()
    with cursor:
        buffer = io.StringIO()
        csv.writer(buffer).writerows(data)
        buffer.seek(0)
        columns = ", ".join(f'"{key}"' for key in keys)
        cursor.copy_expert(f"COPY {table.name} ({columns}) FROM STDIN WITH CSV", buffer)
