"""A backfill that is killed at any moment leaves nothing half done, and the same command resumes it.

`SPILLWAY_TEST_KILLS` is the number of kills, 12 by default.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from flows.reconcile import reconcile
from infra.producers.generate import batches
from tests.faults.histories import Entry, events_of, ledger_totals, shuffled_days, stage, write
from tests.support.chunk_states import chunk_statuses
from tests.support.oracle import flat_rows, table_rows
from tests.support.pause_points import Point
from tests.support.processes import Drain, Harness
from tests.support.servers import Servers
from tests.support.tables import empty_tables

KILLS = int(os.environ.get("SPILLWAY_TEST_KILLS", "12"))
EVENTS = 12_000
SEED = 6
BAD = 40
LATEST = datetime(2024, 3, 1, tzinfo=UTC)
DAYS = 40

# Small slices, so that kills hit the middle of slices and the gaps between them.
_SMALL = {"SPILLWAY_BATCH_ROWS": "100"}
_BACKFILL = Harness(flow="backfill")
_COMPRESSED = "ALTER TABLE events SET (timescaledb.compress, timescaledb.compress_orderby = 'time DESC')"


class History:
    """Three files that share events with each other and repeat some of their own; some rows are bad.

    `row_count`: the rows that a backfill has to read. `live`: entries that the table may already have; some are
    also in the files.
    """

    def __init__(self, folder: Path) -> None:
        span = batches(EVENTS, seed=SEED, duplicates=0.02, start=LATEST, span_hours=24 * DAYS)
        good = shuffled_days((entry for batch in span for entry in batch.entries), 7)
        bad = [entry | {b"event_id": b"%d is no id" % number} for number, entry in enumerate(good[:BAD])]
        parts = {
            "first.ndjson.gz": good[: EVENTS // 2] + bad,
            "second.csv": good[EVENTS // 3 : EVENTS * 3 // 4],
            "third.parquet": good[EVENTS // 2 :],
        }
        self.folder = folder
        self.row_count = sum(map(len, parts.values()))
        self.rows = flat_rows(good)
        self.live: list[Entry] = list({entry[b"event_id"]: entry for entry in reversed(good[::30])}.values())
        for name, entries in parts.items():
            write(folder / name, entries)

    def is_whole(self, database: psycopg.Connection) -> None:
        """All events are in the table, once and unchanged; all rows are in the ledger, and its totals balance."""
        assert table_rows(database) == self.rows
        read, inserted, duplicates, quarantined = ledger_totals(database)
        assert (read, quarantined) == (self.row_count, BAD)
        assert duplicates == self.row_count - BAD - inserted
        found = reconcile("file:*")
        assert found["balanced"], found["findings"]
        assert {ledger["waiting"] for ledger in found["streams"]} == {0, BAD}


def _kill_until_done(
    history: History, env: dict[str, str], database: psycopg.Connection, chance: random.Random, longest: float
) -> list[str]:
    """Start the backfill and kill it, again and again, until it ends by itself. One run in five is killed at any time,
    the others within `longest` seconds after their first commit.

    Returns what it was doing at each kill.
    """
    killed_at = []
    while True:
        before = ledger_totals(database)[0]
        run = Drain(str(history.folder), env, _BACKFILL)
        if len(killed_at) % 5 == 0:
            run.process.join(chance.uniform(0, 2))
        else:
            while run.process.is_alive() and ledger_totals(database)[0] == before:
                time.sleep(0.01)
            run.process.join(chance.uniform(0, longest))
        run.stop()
        if run.process.is_alive():
            killed_at.append(stage(database, before))
            run.kill()
            assert ledger_totals(database)[0] >= before
            continue
        assert "error" not in (result := run.finished()), result
        return killed_at


@pytest.mark.timeout(1800)
def test_a_backfill_that_is_killed_again_and_again_loads_every_row_once(
    prefect_server: str, servers: Servers, env: dict[str, str], database: psycopg.Connection, tmp_path: Path
) -> None:
    history = History(tmp_path)
    env = env | _SMALL
    undisturbed = Drain(str(history.folder), env, _BACKFILL)
    began = time.monotonic()
    result = undisturbed.finished()
    seconds = time.monotonic() - began
    assert "error" not in result, result
    assert (result["read"], result["inserted"]) == (history.row_count, len(history.rows))
    history.is_whole(database)
    chance = random.Random(SEED)
    killed_at: list[str] = []
    rounds = 0
    while len(killed_at) < KILLS:
        rounds += 1
        empty_tables(database)
        killed_at += _kill_until_done(history, env, database, chance, seconds / KILLS)
        assert ledger_totals(database)[1] == events_of(database)
        history.is_whole(database)
    kinds = Counter(killed_at)
    print(f"{seconds:.1f} s undisturbed; {len(killed_at)} kills in {rounds} rounds: {dict(kinds)}")
    assert kinds["within a slice"] + kinds["between slices"] >= KILLS // 3


@pytest.mark.community
@pytest.mark.usefixtures("community")
@pytest.mark.timeout(1800)
def test_compressed_chunks_are_compressed_again_at_the_end(
    prefect_server: str, env: dict[str, str], database: psycopg.Connection, tmp_path: Path
) -> None:
    history = History(tmp_path)
    env = env | _SMALL
    chance = random.Random(SEED)
    killed_at: list[str] = []
    while len(killed_at) < KILLS:
        empty_tables(database)
        database.execute(_COMPRESSED)
        with database.cursor().copy("COPY events (event_id, time, event_type, user_id, properties) FROM STDIN") as copy:
            for entry in history.live:
                names = (b"event_id", b"time", b"event_type", b"user_id", b"properties")
                copy.write_row([entry[name].decode() for name in names])
        database.execute("SELECT compress_chunk(c) FROM show_chunks('events') AS c")
        killed_at += _kill_until_done(history, env, database, chance, 10 / KILLS)
        assert ledger_totals(database)[1] + len(flat_rows(history.live)) == events_of(database)
        history.is_whole(database)
        assert set(chunk_statuses(database)) == {1}
    print(f"{len(killed_at)} kills: {dict(Counter(killed_at))}")


@pytest.mark.community
@pytest.mark.usefixtures("community")
def test_after_a_kill_during_compression_the_next_run_compresses_the_remaining_chunks(
    prefect_server: str, env: dict[str, str], database: psycopg.Connection, tmp_path: Path
) -> None:
    history = History(tmp_path)
    database.execute(_COMPRESSED)
    run = Drain(str(history.folder), env, replace(_BACKFILL, point=Point("before compress", 2)))
    assert run.reached(), "it never compresses"
    run.kill()
    assert ledger_totals(database)[0] == history.row_count
    assert 0 in chunk_statuses(database)
    result = Drain(str(history.folder), env, _BACKFILL).finished()
    assert (result["read"], result["remaining"]) == (0, 0)
    assert set(chunk_statuses(database)) == {1}
    history.is_whole(database)
