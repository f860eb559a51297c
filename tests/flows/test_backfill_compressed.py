"""Late rows for compressed chunks and for new ones: each is loaded once, and all chunks are compressed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import redis

from flows.backfill import backfill
from flows.drain import drain
from flows.maintain import maintain
from flows.reconcile import reconcile
from infra.producers.send import send
from infra.settings import Settings
from tests.support.backfill_sources import CROSSREF, csv_text, flat_columns, ndjson, written
from tests.support.chunk_states import chunk_statuses, paused_job
from tests.support.oracle import crossref_rows, flat_rows, table_rows
from tests.support.results import backfill_counts
from tests.support.stream_entries import event

pytestmark = [
    pytest.mark.usefixtures("prefect_server", "community"),
    pytest.mark.community,
]


def compress_all(connection: psycopg.Connection) -> None:
    """Set the table up, and compress what is in it. The database's own job may have begun to, and be the first."""
    maintain()
    paused_job(connection, "policy_compression")
    for (chunk,) in connection.execute("SELECT show_chunks('events')::text").fetchall():
        with suppress(psycopg.errors.DuplicateObject):
            connection.execute("SELECT compress_chunk(%s::regclass, if_not_compressed => true)", [chunk])


def test_real_late_events_go_into_compressed_and_new_chunks_and_all_are_compressed_at_the_end(
    sample: Path, database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    configure(batch_rows=400)
    lines = sorted(sample.read_bytes().splitlines(), key=lambda line: min(crossref_rows([line]))[1])
    first, late = lines[:1_500:2], [*lines[1:1_500:2], *lines[1_500:], *lines[:100:2]]
    backfill(written(tmp_path, "crossref-1.ndjson", ndjson(first)))
    compress_all(database)
    before = len(chunk_statuses(database))
    assert set(chunk_statuses(database)) == {1}
    path = written(tmp_path, "crossref-2.ndjson", ndjson(late))
    dry = backfill(path, dry_run=True)
    assert dry["chunks"]["compressed"] > 5
    result = backfill(path)
    expected = crossref_rows([*first, *late])
    assert table_rows(database) == expected
    fresh = len(expected) - len(crossref_rows(first))
    assert backfill_counts(result) == (len(late), fresh, len(late) - fresh, 0)
    assert result["chunks"] == dry["chunks"]
    assert len(chunk_statuses(database)) == before + result["chunks"]["new"]
    assert set(chunk_statuses(database)) == {1}
    assert result["compressed"] > 0
    assert reconcile("*", deep=True)["balanced"]
    other = backfill(written(tmp_path, "history.csv", CROSSREF["history.csv"](lines)))
    assert (other["inserted"], other["duplicates"]) == (0, len(lines))
    assert set(chunk_statuses(database)) == {1}


@pytest.fixture
def tight(database: psycopg.Connection) -> Iterator[None]:
    """A server that may decompress 20 rows per transaction instead of the default of 100,000."""
    (name,) = database.execute("SELECT current_database()").fetchone() or ("",)
    limit = "timescaledb.max_tuples_decompressed_per_dml_transaction"
    database.execute(f"ALTER DATABASE {name} SET {limit} = 20")
    yield
    database.execute(f"ALTER DATABASE {name} RESET {limit}")


def test_the_limit_of_the_server_on_decompression_is_kept(
    database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """It is not met: a row whose key is not in a compressed batch needs nothing decompressed, and one whose key is, is
    left out. See `test_a_slice_that_is_too_large_for_the_server_is_loaded_in_parts`."""
    configure(batch_rows=500)
    old = [event(n, time=f"2026-0{1 + n % 6}-10T00:00:{n % 60:02}Z") for n in range(600)]
    backfill(written(tmp_path, "old.csv", csv_text(map(flat_columns, old))))
    compress_all(database)
    request.getfixturevalue("tight")
    late = [event(1_000 + n, time=f"2026-0{1 + n % 6}-10T00:00:{n % 60:02}Z") for n in range(300)]
    rows = [*late, *old[::10]]
    result = backfill(written(tmp_path, "late.csv", csv_text(map(flat_columns, rows))))
    assert backfill_counts(result) == (360, 300, 60, 0)
    assert table_rows(database) == flat_rows([*old, *late])
    assert set(chunk_statuses(database)) == {1}
    assert reconcile("*", deep=True)["balanced"]


def test_a_table_without_compression_settings_is_left_to_maintain(database: psycopg.Connection, tmp_path: Path) -> None:
    entries = [event(n, time="2026-01-10T00:00:00Z") for n in range(10)]
    result = backfill(written(tmp_path, "x.csv", csv_text(map(flat_columns, entries))))
    assert (result["compressed"], chunk_statuses(database)) == (0, [0])
    assert table_rows(database) == flat_rows(entries)


def test_chunks_that_are_too_young_are_not_compressed(database: psycopg.Connection, tmp_path: Path) -> None:
    compress_all(database)
    entries = [event(n, time=datetime.now(UTC).isoformat()) for n in range(10)]
    result = backfill(written(tmp_path, "x.csv", csv_text(map(flat_columns, entries))))
    assert (result["compressed"], chunk_statuses(database)) == (0, [0])


def test_what_an_earlier_run_loaded_of_a_stream_is_compressed_with_the_rest(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    """As a drain leaves it, or a backfill that was killed: in the table, in chunks that are still rows."""
    old = [event(n, time=f"2026-0{1 + n // 20}-10T00:00:{n:02}Z") for n in range(60)]
    compress_all(database)
    send(redis_client, stream, old[:40])
    drain(stream)
    assert set(chunk_statuses(database)) == {0}
    send(redis_client, stream, old[40:])
    result = backfill(stream=stream)
    assert (backfill_counts(result), result["compressed"]) == ((20, 20, 0, 0), len(chunk_statuses(database)))
    assert set(chunk_statuses(database)) == {1}
    assert table_rows(database) == flat_rows(old)
