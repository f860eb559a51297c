"""Chunks and sizes, compared with what the server's own functions say."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from flows.metrics_server import metrics_text
from infra.settings import Settings
from tests.support.chunk_states import fill_weeks
from tests.support.metrics import Samples, labels, samples
from tests.support.servers import Servers


def by_state(found: Samples, name: str, table: str = "public.events") -> dict[str, float]:
    return {
        dict(names)["state"]: value for names, value in found.get(name, {}).items() if dict(names)["table"] == table
    }


@pytest.mark.community
@pytest.mark.usefixtures("community")
def test_chunks_are_counted_by_state_and_their_sizes_are_those_of_the_server(
    database: psycopg.Connection, exported: Callable[..., Samples]
) -> None:
    fill_weeks(database, weeks=4)
    database.execute("VACUUM events")  # later, autovacuum would do it, and change the sizes of chunks of rows
    database.execute("ALTER TABLE events SET (timescaledb.compress, timescaledb.compress_orderby = 'time')")
    database.execute("SELECT compress_chunk(c) FROM (SELECT c FROM show_chunks('events') AS c ORDER BY 1 LIMIT 2) AS c")
    database.execute("INSERT INTO events VALUES ('2020-01-07Z', gen_random_uuid(), 'a', 'b', '{}')")
    found = exported()
    assert by_state(found, "spillway_chunks") == {"rows": 3, "compressed": 1, "partial": 1}
    overdue = {dict(names)["action"]: value for names, value in found["spillway_chunks_overdue"].items()}
    assert overdue == {"compress": 3, "recompress": 1, "drop": 0}
    kept = exported(keep="30d", compress_after="")["spillway_chunks_overdue"]
    assert {dict(names)["action"]: value for names, value in kept.items()} == {
        "compress": 0,
        "recompress": 0,
        "drop": 5,
    }
    sizes: dict[str, float] = {}
    for state, size in database.execute(
        "SELECT CASE WHEN NOT is_compressed THEN 'rows' WHEN range_start = min(range_start) OVER () THEN 'partial'"
        " ELSE 'compressed' END, total_bytes FROM timescaledb_information.chunks"
        " JOIN chunks_detailed_size('events') USING (chunk_schema, chunk_name)"
    ):
        sizes[state] = sizes.get(state, 0) + size
    assert by_state(found, "spillway_table_bytes") == pytest.approx(sizes, rel=0.1)
    assert by_state(found, "spillway_table_bytes")["rows"] == sizes["rows"]


@pytest.mark.usefixtures("database")
def test_a_table_without_rows_has_no_chunks(exported: Callable[..., Samples], servers: Servers) -> None:
    assert by_state(exported(), "spillway_chunks") == {}
    sizes = by_state(exported(), "spillway_table_bytes")
    assert list(sizes) == ([] if servers.edition else ["rows"])


def test_a_plain_and_a_partitioned_table_have_a_size(
    database: psycopg.Connection, exported: Callable[..., Samples]
) -> None:
    database.execute(
        "CREATE SCHEMA users; CREATE TABLE users.plain AS SELECT generate_series(1, 5000) AS n;"
        " CREATE TABLE users.parts (n int) PARTITION BY RANGE (n);"
        " CREATE TABLE users.part PARTITION OF users.parts FOR VALUES FROM (0) TO (9999);"
        " INSERT INTO users.parts SELECT generate_series(1, 5000);"
        """ INSERT INTO spillway.streams (name, baseline, "table")"""
        """ VALUES ('a', 0, '"users"."plain"'), ('b', 0, '"users"."parts"'), ('c', 0, '"users"."absent"')"""
    )
    database.execute("VACUUM users.plain, users.parts")  # later, autovacuum would do it, and change sizes
    try:
        found = exported()["spillway_table_bytes"]
        for table, relation in (("users.plain", "users.plain"), ("users.parts", "users.part")):
            row = database.execute("SELECT pg_total_relation_size(%s::regclass)", [relation]).fetchone()
            assert row == (found[labels(table=table, state="rows")],)
        assert labels(table="users.absent", state="rows") not in found
    finally:
        database.execute("DROP SCHEMA users CASCADE")


def test_a_table_that_somebody_has_locked_takes_away_the_figures_of_tables_only(
    database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    config = configure()
    database.execute("INSERT INTO spillway.streams (name, baseline) VALUES ('a', 0)")
    fill_weeks(database, weeks=1, rows=10)
    with psycopg.connect(config.database) as other:
        other.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        text, faults = metrics_text(config)
    found = samples(text)
    up = {labels(server="postgresql"): 1, labels(server="chunks"): 0, labels(server="redis"): 1}
    assert found["spillway_up"] == up
    assert found["spillway_ledger_balanced"] == {labels(stream="a"): 1}
    assert "spillway_chunks_overdue" not in found
    assert list(faults) == ["chunks"]
    assert "metrics: read chunks and sizes from postgresql: " in faults["chunks"]
    assert "lock timeout" in faults["chunks"]
