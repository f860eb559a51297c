"""Several simultaneous drains of one stream have the result of one."""

from __future__ import annotations

import subprocess

import psycopg
import pytest
import redis

from infra.producers.generate import batches
from infra.producers.send import send
from tests.support.oracle import flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.processes import Drain
from tests.support.programs import BIN

EVENTS = 30_000


def test_two_drains_and_a_deployment_run_at_the_same_moment(
    worker: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    produced = [entry for batch in batches(EVENTS, seed=8, duplicates=0.01) for entry in batch.entries]
    send(redis_client, stream, produced[: EVENTS // 2])
    command = [str(BIN / "prefect"), "deployment", "run", worker, "--param", f"stream={stream}", "--watch"]
    run = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    env = env | {"SPILLWAY_BATCH_ROWS": "1000"}
    read = 0
    # Start pairs of drains until the run of the deployment has started and finished among them.
    while run.poll() is None or redis_client.xlen(stream) < EVENTS:
        pair = [Drain(stream, env), Drain(stream, env)]
        if redis_client.xlen(stream) < EVENTS:
            send(redis_client, stream, produced[EVENTS // 2 :])
        results = [drain.finished() for drain in pair]
        assert [result.get("error") for result in results] == [None, None]
        read += sum(result["read"] for result in results)
    output = run.communicate()[0]
    assert run.returncode == 0, output
    assert "error" not in Drain(stream, env).finished()
    assert table_rows(database) == flat_rows(produced)
    assert ledger_is_whole(database, stream)
    sums = ledger_sums(database, stream)
    assert sums == (EVENTS, len(flat_rows(produced)), EVENTS - len(flat_rows(produced)), 0)
    assert 0 < read <= EVENTS


@pytest.mark.parametrize("drains", [4])
def test_simultaneous_drains_share_the_work_and_record_each_entry_once(
    drains: int, prefect_server: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection,
    stream: str,
) -> None:  # fmt: skip
    produced = [entry for batch in batches(30_000, seed=9) for entry in batch.entries]
    send(redis_client, stream, produced)
    sizes = [700, 1000, 1300, 900]
    together = [Drain(stream, env | {"SPILLWAY_BATCH_ROWS": str(sizes[i])}) for i in range(drains)]
    results = [drain.finished() for drain in together]
    assert [result.get("error") for result in results] == [None] * drains
    assert sum(result["read"] for result in results) == 30_000
    assert sum(result["inserted"] for result in results) == 30_000
    assert table_rows(database) == flat_rows(produced)
    assert ledger_is_whole(database, stream)
