"""The number of task runs of a flow does not grow with the number of entries or batches."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.sorting import FlowRunSort

from flows.backfill import backfill
from flows.drain import drain
from flows.reconcile import reconcile
from flows.redrive import redrive
from infra.producers.send import send
from infra.settings import Settings
from tests.support.oracle import flat_rows, table_rows
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("prefect_server")


def task_runs(last: str) -> Counter[str]:
    """The task runs of the newest flow run, as the server has them, once it has the one named `last`.

    It stores them a while after they happened.
    """
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
        of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))

        def stored() -> Counter[str]:
            return Counter(one.name.rpartition("-")[0] for one in client.read_task_runs(flow_run_filter=of_run))

        wait_until(lambda: last in stored(), 240, shown=stored, every=0.5)
        return stored()


def test_a_hundred_batches_of_a_stream_are_four_task_runs(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Callable[..., Settings]
) -> None:
    configure(batch_rows=10)
    entries = [event(n) for n in range(1_000)]
    send(redis_client, stream, entries)
    assert drain(stream)["read"] == 1_000
    assert database.execute("SELECT count(*) FROM spillway.ledger").fetchone() == (100,)
    assert task_runs("report") == dict.fromkeys(["preflight", "find idle streams", "drain streams", "report"], 1)
    assert table_rows(database) == flat_rows(entries)
    reconcile(stream, deep=True)
    assert task_runs("report").total() <= 10


def test_fifty_new_streams_are_four_task_runs(redis_client: redis.Redis, database: psycopg.Connection) -> None:
    entries = [event(n) for n in range(50)]
    for number, one in enumerate(entries):
        send(redis_client, f"small:{number}", [one])
    assert drain("small:*")["read"] == 50
    assert task_runs("report") == dict.fromkeys(["preflight", "find idle streams", "drain streams", "report"], 1)
    assert table_rows(database) == flat_rows(entries)


def test_the_slices_of_a_backfill_are_one_task_run(
    database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    configure(batch_rows=10)
    entries = [event(n) for n in range(500)]
    lines = [json.dumps({name.decode(): value.decode() for name, value in one.items()}) for one in entries]
    (tmp_path / "history.ndjson").write_text("\n".join(lines))
    assert backfill(str(tmp_path / "history.ndjson"))["inserted"] == 500
    found = task_runs("report")
    assert found["load sources"] == 1
    assert found.total() <= 15, found
    assert database.execute("SELECT count(*) FROM events").fetchone() == (500,)


def test_the_batches_of_a_redrive_are_one_task_run(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    """A stream is a batch at least."""
    configure(max_bad_share=1)
    for number in range(20):
        send(redis_client, f"bad:{number}", [event(number, time="no time")])
    drain("bad:*")
    fixed = event(0)[b"time"].decode()
    assert redrive([f"bad:{n}" for n in range(20)], set={"time": fixed})["inserted"] == 20
    assert task_runs("report")["replay entries"] == 1
    assert task_runs("report").total() <= 10
    assert database.execute("SELECT count(*) FROM events").fetchone() == (20,)
