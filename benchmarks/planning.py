"""The cost of planning with a long ledger: python -m benchmarks.planning

The server's execution time of the two queries, before and after the ranges are merged.
"""

from __future__ import annotations

import statistics
from typing import Any

import psycopg
import typer

from infra.servers.throwaway import throwaway_servers
from tasks.ledger.merge_ranges import merge_ranges
from tasks.ledger.plan import CHECKPOINT
from tasks.ledger.stream_progress import refresh_progress
from tasks.ledger.undrained import UNDRAINED

RANGES = 100_000
LIMIT_MS = 100
_FILL = """
    INSERT INTO spillway.ledger (stream, ids, read, rows, inserted, loaded_by, loaded_at)
    SELECT id, numrange(i * 2::numeric ^ 64, (i + 1) * 2::numeric ^ 64), 5, 5, 5, 'benchmark', now() - interval '2 days'
      FROM spillway.streams, generate_series(0, %s) AS i"""


def measure(engine: str | None = None, repeats: int = 5) -> dict[str, Any]:
    """The server's milliseconds for a plan before and after the ledger is compacted, and for compacting it."""
    with throwaway_servers("bench", engine) as (settings, used):  # noqa: SIM117  the connection needs the settings
        with psycopg.connect(settings.database, autocommit=True) as connection:
            connection.execute("INSERT INTO spillway.streams (name, baseline) VALUES ('long', 0)")
            connection.execute(_FILL, [RANGES - 1])
            refresh_progress(connection, 1)
            connection.execute("ANALYZE spillway.ledger")
            plain = _plan(connection, repeats)
            merge_ranges(connection, 1)
            row = connection.execute("SELECT count(*) FROM spillway.ledger").fetchone()
            assert row is not None  # an aggregate has one row
            compacted = _plan(connection, repeats)
    return {
        "engine": used.name,
        "ranges": RANGES,
        "plan_ms": plain,
        "rows_compacted": row[0],
        "compacted_ms": compacted,
    }


def _plan(connection: psycopg.Connection, repeats: int) -> float:
    """The median of the server's execution times of both queries together."""
    return round(statistics.median(_once(connection) for _ in range(repeats)), 1)


def _once(connection: psycopg.Connection) -> float:
    values = {"stream": "long", "stop": (RANGES + 10) << 64}
    total = 0.0
    for query, parameters in ((CHECKPOINT, ["long"]), (UNDRAINED, values)):
        row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", parameters).fetchone()
        assert row is not None  # a plan has one row
        total += row[0][0]["Execution Time"]
    return total


def main(engine: str | None = None) -> None:
    """Print them."""
    found = measure(engine)
    print(f"{found['engine']}: a plan with {RANGES:,} ranges in the ledger: {found['plan_ms']} ms of server time,"
          f" at most {LIMIT_MS}; compacted to {found['rows_compacted']}: {found['compacted_ms']} ms")  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
