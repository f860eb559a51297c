"""A consumer group and `executemany`: what most people write first."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from benchmarks.alternatives.rows import batches
from benchmarks.contenders import Workload

_BATCH = 5_000

_INSERT = """
    INSERT INTO events (time, event_id, event_type, user_id, properties)
    VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""


def executemany(workload: Workload) -> Callable[[], None]:
    """A prepared INSERT a row, sent in pipeline mode (psycopg does both by itself); a transaction a batch.

    The only alternative here that can be given an entry twice.
    """

    def run() -> None:
        with psycopg.connect(workload.settings.database) as connection:
            for rows in batches(workload, _BATCH):
                connection.cursor().executemany(_INSERT, rows)
                connection.commit()

    return run
