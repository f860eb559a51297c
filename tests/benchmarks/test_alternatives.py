"""The alternatives are measured beside Spillway, so they must do the same work: every row, as it was sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from benchmarks.contenders import Workload
from infra.producers.generate import batches
from infra.producers.send import send
from tests.support.oracle import crossref_rows, flat_rows, table_rows
from tests.support.servers import Servers
from tests.support.tables import users_relations

for _module in ("polars", "adbc_driver_postgresql", "dlt"):
    pytest.importorskip(_module, reason=f"{_module} is not here: make .venv/.bench")

from benchmarks.alternatives import ALTERNATIVES  # noqa: E402  (it imports what may not be here)

pytestmark = pytest.mark.parametrize("alternative", ALTERNATIVES.values(), ids=ALTERNATIVES)

Alternative = Callable[[Workload], Callable[[], None]]


@pytest.fixture(autouse=True)
def tables_of_alternatives(database: psycopg.Connection) -> Iterator[None]:
    """Dropped at the end: dlt keeps its state in tables."""
    yield
    for name in users_relations(database):
        database.execute(f"DROP TABLE {name} CASCADE".encode())


def test_it_loads_generated_events(
    alternative: Alternative, servers: Servers, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    """Twice, to show that an emptied table can be filled again from the stream's start."""
    entries = [entry for batch in batches(2_000, seed=7) for entry in batch.entries]
    send(redis_client, stream, entries)
    run = alternative(Workload(servers.settings, stream, len(entries)))
    for _ in range(2):
        database.execute("TRUNCATE events")
        run()
        assert table_rows(database) == flat_rows(entries)


def test_it_loads_real_events(
    alternative: Alternative, servers: Servers, redis_client: redis.Redis, database: psycopg.Connection, sample: Path
) -> None:
    """Every document once, the repeated ones among them."""
    lines = sample.read_bytes().splitlines()
    send(redis_client, "crossref-test", [{b"data": line} for line in lines])
    alternative(Workload(servers.settings, "crossref-test", len(lines)))()
    assert table_rows(database) == crossref_rows(lines)
