"""Chunks are archived and dropped while drains write to them: no drain fails, and no row is lost."""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from datetime import timedelta
from pathlib import Path

import psycopg
import redis

from infra.errors.exceptions import Transient
from infra.producers.send import send
from tasks.archive.archive_root import open_root
from tasks.archive.drop_archived import drop_archived
from tasks.archive.manifest import archive_names, load_manifest
from tasks.archive.verify import verify
from tasks.archive.write_chunk import archive_chunk
from tests.faults.archiving import archive_and_drop
from tests.support.archives import THURSDAY, as_rows, chunks, rows_by_pandas
from tests.support.default_table import default_table
from tests.support.oracle import flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.pause_points import Point
from tests.support.processes import Drain, Harness

EVENTS = 20_000
BEFORE = 3_000  # entries that are in the table when the chunks are first archived
OLD_WEEKS = 3


def produce(chance: random.Random) -> list[dict[bytes, bytes]]:
    """Produce events of the week from THURSDAY on. One in five comes twice, so that batches are merged; a third are
    older."""
    entries: list[dict[bytes, bytes]] = []
    recent: list[dict[bytes, bytes]] = []
    for number in range(EVENTS):
        late = chance.random() < 1 / 3
        weeks = -chance.uniform(0, OLD_WEEKS) if late else chance.uniform(0, 1)
        entry = {
            b"event_id": str(uuid.UUID(int=number)).encode(),
            b"event_type": b"click",
            b"user_id": b"user-%d" % (number % 100),
            b"time": (THURSDAY + weeks * timedelta(weeks=1)).isoformat().encode(),
            b"properties": b'{"n": %d}' % number,
        }
        entries.append(entry)
        if not late:
            recent.append(entry)
            if chance.random() < 0.2:
                entries.append(chance.choice(recent))
    return entries


def test_drains_of_late_rows_continue_while_the_chunks_of_these_rows_are_archived_and_dropped(
    prefect_server: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    seed = random.randrange(1 << 32)
    produced = produce(random.Random(seed))
    root, table = open_root(str(tmp_path)), default_table(database)
    env = env | {"SPILLWAY_BATCH_ROWS": "300", "SPILLWAY_PARALLEL_LOADS": "3"}
    send(redis_client, stream, produced[:BEFORE])
    assert "error" not in Drain(stream, env).finished()
    send(redis_client, stream, produced[BEFORE:])
    outcomes: Counter[str] = Counter()

    def archive_and_drop_old() -> None:
        for chunk in chunks(database):
            if chunk.range_end <= THURSDAY:
                try:
                    manifest = archive_chunk(database, table, chunk, root)
                    outcomes[drop_archived(database, table, chunk, manifest, root)] += 1
                except Transient:
                    outcomes["busy"] += 1

    running = Drain(stream, env, Harness(Point("before load")))
    assert running.reached()
    archive_and_drop_old()  # at least these are dropped before the first load, however fast the drain is
    running.go_on()
    while running.process.is_alive() and not running.has_result():
        archive_and_drop_old()
        time.sleep(0.05)
    print(f"seed {seed}; {dict(outcomes)}")
    result = running.finished()
    print(result)
    assert "error" not in result, result
    # Two loads with the same keys may wait for each other («ShareLock on transaction»), and one of them tries again.
    # A load and the archive must not: they lock chunks.
    assert "Lock on relation" not in "".join(result["retries"])
    assert outcomes["dropped"] > 0
    for chunk in chunks(database):
        if chunk.range_end <= THURSDAY:
            archive_and_drop(database, chunk, root)
    manifests = [load_manifest(root, name) for name in archive_names(root)]
    for manifest in manifests:
        verify(root, manifest)
    archived, held = as_rows(rows_by_pandas(tmp_path, manifests)), table_rows(database)
    assert not archived.keys() & held.keys()
    assert archived | held == flat_rows(produced)
    assert ledger_is_whole(database, stream)
    assert ledger_sums(database, stream) == (len(produced), EVENTS, len(produced) - EVENTS, 0)
