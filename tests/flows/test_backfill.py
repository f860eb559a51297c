"""The backfill on real events: every kind of source gives the same table, once, and its totals balance."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from flows.backfill import backfill
from flows.drain import drain
from flows.reconcile import reconcile
from infra.producers.send import send
from infra.settings import Settings
from tests.support.backfill_sources import (
    COLUMNS,
    CROSSREF,
    as_document,
    csv_text,
    flat_columns,
    ndjson,
    parquet,
    written,
)
from tests.support.oracle import crossref_rows, flat_rows, ledger_sums, table_digest, table_rows
from tests.support.results import backfill_counts, ledger_of_file
from tests.support.stream_entries import event
from tests.support.triggers import row_limit, trigger

pytestmark = pytest.mark.usefixtures("prefect_server")

Configure = Callable[..., Settings]
STREAM = "crossref-test"
KINDS = [*CROSSREF, STREAM]
# All kinds in one order, from compressed JSON to plain JSON. In the others, another kind meets the empty table.
ORDERS = [
    [*KINDS[1:], KINDS[0]],
    ["history.csv", STREAM],
    ["history.parquet", STREAM],
    [STREAM, "history.parquet"],
]


@pytest.mark.usefixtures("wide_chunks")
@pytest.mark.parametrize("order", ORDERS, ids=[order[0] for order in ORDERS])
def test_the_same_events_in_any_form_and_order_are_loaded_once(
    order: list[str], sample: Path, redis_client: redis.Redis, database: psycopg.Connection, configure: Configure,
    tmp_path: Path,
) -> None:  # fmt: skip
    configure(batch_rows=600)
    lines = sample.read_bytes().splitlines()
    send(redis_client, STREAM, ({b"data": line} for line in lines))
    for number, kind in enumerate(order):
        path = None if kind == STREAM else written(tmp_path, kind, CROSSREF[kind](lines))
        result = backfill(path, stream=None if path else STREAM)
        assert backfill_counts(result) == ((2_737, 0, 2_737, 0) if number else (2_737, 2_654, 83, 0)), kind
        assert (result["rows"], result["remaining"], result["sources"][0]["state"]) == (2_737, 2_737, "new")
        assert ledger_sums(database, ledger_of_file(result)) == backfill_counts(result)
        if not number:
            assert table_rows(database) == crossref_rows(lines)
            digest = table_digest(database)
    assert table_digest(database) == digest
    found = reconcile("*", deep=True)
    assert (found["balanced"], found["compared"], found["notes"]) == (True, len(order) * 2_737, [])
    assert drain(STREAM)["read"] == 0


@pytest.mark.hypertables
@pytest.mark.usefixtures("hypertables")
def test_a_folder_and_a_glob_are_their_files_each_once_in_the_order_of_their_times(
    database: psycopg.Connection, tmp_path: Path, configure: Configure
) -> None:
    configure(batch_rows=10)
    new = [event(n) for n in range(30)]
    old = [event(100 + n, time=f"2026-10-0{1 + n % 9}T00:00:00Z") for n in range(30)]
    inner = tmp_path / "year" / "month"
    inner.mkdir(parents=True)
    written(tmp_path / "year", "a.csv", csv_text(map(flat_columns, new)))
    written(inner, "b.parquet", parquet(map(flat_columns, old)))
    written(inner, "_temporary.csv", b"not a header")
    result = backfill([str(tmp_path / "year"), str(inner / "*.parquet")])
    assert [(Path(one["source"]).name, one["inserted"]) for one in result["sources"]] == [
        ("b.parquet", 30),
        ("a.csv", 30),
    ]
    assert table_rows(database) == flat_rows([*old, *new])
    assert (result["first_day"], result["last_day"]) == ("2026-10-01", "2026-11-20")


@pytest.mark.hypertables
@pytest.mark.usefixtures("hypertables")
def test_slices_are_in_the_order_of_time_whatever_the_order_in_the_file(
    database: psycopg.Connection, tmp_path: Path, configure: Configure
) -> None:
    configure(batch_rows=7)
    entries = [event(n, time=f"2026-10-{1 + n % 28:02}T00:00:{n % 60:02}Z") for n in range(100)]
    random.Random(1).shuffle(entries)
    result = backfill(written(tmp_path, "x.ndjson", ndjson(map(as_document, entries))), parallel=1)
    assert backfill_counts(result) == (100, 100, 0, 0)
    assert table_rows(database) == flat_rows(entries)
    spans = database.execute(
        "SELECT min_time, max_time, read FROM spillway.ledger WHERE read > 0 ORDER BY loaded_at"
    ).fetchall()
    days = [(first.date(), last.date()) for first, last, _ in spans]
    assert days == sorted(days)
    assert all(before[1] <= after[0] for before, after in pairwise(days))
    assert max(read for *_, read in spans) <= 7


def test_an_empty_file_of_each_kind_is_no_error_and_leaves_nothing(
    database: psycopg.Connection, tmp_path: Path
) -> None:
    empty = parquet([dict.fromkeys(COLUMNS, "x")])
    pq.write_table(pq.read_table(pa.BufferReader(empty)).slice(0, 0), tmp_path / "c.parquet")
    written(tmp_path, "a.ndjson", b"\n\n")
    written(tmp_path, "b.csv", csv_text([]))
    result = backfill(str(tmp_path))
    assert backfill_counts(result) == (0, 0, 0, 0)
    assert [one["state"] for one in result["sources"]] == ["known"] * 3
    assert database.execute("SELECT count(*) FROM spillway.streams").fetchone() == (0,)


def test_a_slice_that_is_too_large_for_the_server_is_loaded_in_parts(
    database: psycopg.Connection, tmp_path: Path
) -> None:
    """A limit on temporary files stands for the limit on decompression: no transaction takes more than 20 rows."""
    entries = [event(n) for n in range(100)]
    with trigger(database, row_limit(20)):
        result = backfill(written(tmp_path, "x.csv", csv_text(map(flat_columns, [*entries, *entries[:9]]))))
    assert backfill_counts(result) == (109, 100, 9, 0)
    assert table_rows(database) == flat_rows(entries)
    parts = database.execute("SELECT read FROM spillway.ledger WHERE read > 0").fetchall()
    # 109 rows, halved three times at least: of duplicates the trigger is asked once more what it makes of them.
    assert len(parts) >= 8
    assert all(read <= 20 for (read,) in parts)
    assert reconcile("*", deep=True)["balanced"]


def test_files_are_loaded_without_a_redis(
    sample: Path, database: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    """No server answers at this URL."""
    configure(redis_url="redis://127.0.0.1:1/0", retries=0)
    lines = sample.read_bytes().splitlines()
    result = backfill(written(tmp_path, "crossref.ndjson", ndjson(lines)))
    assert backfill_counts(result) == (2_737, 2_654, 83, 0)
    assert table_rows(database) == crossref_rows(lines)
