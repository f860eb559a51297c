"""A consumer group and psycopg's COPY, a row at a time."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import psycopg
from psycopg.types.json import set_json_dumps

from benchmarks.alternatives.rows import Unseen, batches
from benchmarks.contenders import Workload

_BATCH = 5_000


def write_row(workload: Workload) -> Callable[[], None]:
    """Binary COPY with the types set, as psycopg's documentation has it; a transaction a batch."""

    def run() -> None:
        unseen = Unseen(workload)
        with psycopg.connect(workload.settings.database) as connection:
            set_json_dumps(str.encode, connection)  # it is JSON already
            for rows in batches(workload, _BATCH):
                with connection.cursor().copy(
                    "COPY events (time, event_id, event_type, user_id, properties) FROM STDIN (FORMAT BINARY)"
                ) as copy:
                    copy.set_types(["timestamptz", "uuid", "text", "text", "jsonb"])
                    for time, event_id, event_type, user_id, properties in unseen.of(rows):
                        copy.write_row((time, UUID(event_id), event_type, user_id, properties))
                connection.commit()

    return run
