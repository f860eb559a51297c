"""A drain that is killed at any moment leaves nothing half done, and the next one completes it."""

from __future__ import annotations

import random
import time

import psycopg
import redis

from infra.producers.generate import batches
from infra.producers.send import send
from tests.support.oracle import flat_rows, ledger_is_whole, ledger_sums, table_digest, table_rows
from tests.support.processes import Drain
from tests.support.tables import empty_tables

KILLS = 20
EVENTS = 40_000


def test_twenty_kills_in_a_row_lead_to_the_same_table_as_an_undisturbed_drain(
    prefect_server: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    produced = [entry for batch in batches(EVENTS, seed=3, duplicates=0.02) for entry in batch.entries]
    send(redis_client, stream, produced)
    # Small ranges, so that kills hit the middle of ranges and the gaps between them.
    env = env | {"SPILLWAY_BATCH_ROWS": "500"}
    undisturbed = Drain(stream, env)
    began = time.monotonic()
    assert undisturbed.finished()["read"] == EVENTS
    seconds = time.monotonic() - began
    expected = table_digest(database)
    assert table_rows(database) == flat_rows(produced)
    empty_tables(database)

    seed = random.randrange(1 << 32)
    print(f"seed {seed}; an undisturbed drain takes {seconds:.1f} s")
    moments = random.Random(seed)
    read_at_kills = []
    for _ in range(KILLS):
        drain = Drain(stream, env)
        # The whole drain takes about KILLS times as long as one run, so that most runs are killed in the middle.
        time.sleep(moments.uniform(0, 2.5 * seconds / KILLS + 1))
        drain.kill()
        read_at_kills.append(ledger_sums(database, stream)[0] or 0)
    print(f"read at each kill: {read_at_kills}")
    assert read_at_kills == sorted(read_at_kills)
    assert "error" not in Drain(stream, env).finished()
    assert table_digest(database) == expected
    assert ledger_is_whole(database, stream)
    read, inserted, duplicates, quarantined = ledger_sums(database, stream)
    assert (read, inserted, quarantined) == (EVENTS, len(flat_rows(produced)), 0)
    assert duplicates == read - inserted
