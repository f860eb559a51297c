"""A drain on Dask workers: exact, also if one of them is killed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import redis

from flows.drain import drain
from flows.loads.shares import drain_share
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.settings import Settings
from tests.support.dask_cluster import DaskCluster, dask_cluster
from tests.support.locks import claim_holders
from tests.support.oracle import flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.pause_points import Point
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

pytest.importorskip("prefect_dask", reason="needs spillway[dask]")
pytestmark = pytest.mark.usefixtures("prefect_server")
BATCH = 200
STREAMS = 8


def fill(client: redis.Redis) -> int:
    """Send entries to some streams, and return their number."""
    for at in range(STREAMS):
        send(client, f"runners:{at}", [event(n) for n in range(at * 20 * BATCH, (at + 1) * 20 * BATCH)])
    return STREAMS * 20 * BATCH


def check(database: psycopg.Connection, sent: int) -> None:
    """Compare the table with what was sent, and check the ledger."""
    assert table_rows(database) == flat_rows(event(n) for n in range(sent))
    for at in range(STREAMS):
        assert ledger_is_whole(database, f"runners:{at}")
        assert ledger_sums(database, f"runners:{at}") == (20 * BATCH, 20 * BATCH, 0, 0)


def test_a_drain_on_local_dask_workers(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    configure(task_runner="dask", drain_workers=2, batch_rows=BATCH)
    sent = fill(redis_client)
    result = drain("runners:*")
    assert (result["read"], result["inserted"], result["lag"]) == (sent, sent, 0)
    assert [one["read"] for one in result["streams"]] == [20 * BATCH] * STREAMS
    check(database, sent)
    assert drain("runners:*")["read"] == 0


@pytest.fixture
def cluster(tmp_path: Path, configure: Callable[..., Settings]) -> Iterator[DaskCluster]:
    """Two workers. The first stops itself in the middle of its third range."""
    with dask_cluster(tmp_path) as running:
        configure(task_runner=f"dask+{running.address}", drain_workers=2, batch_rows=BATCH)
        running.add_worker(stop_at=Point("in copy", 3))
        running.add_worker()
        running.await_workers()
        yield running


def test_a_dask_worker_that_is_killed_in_the_middle_changes_nothing(
    redis_client: redis.Redis, database: psycopg.Connection, cluster: DaskCluster
) -> None:
    sent = fill(redis_client)
    victim = cluster.workers[0]
    stopped = Path(f"/proc/{victim.pid}/stat")
    with ThreadPoolExecutor(1) as pool:
        with database.transaction():
            database.execute("LOCK TABLE events IN SHARE MODE")
            running = pool.submit(drain, "runners:*")
            wait_until(lambda: claim_holders(database) == 2, shown=lambda: running)
        wait_until(lambda: stopped.read_text().rpartition(")")[2].split()[0] == "T", shown=lambda: running)
        cluster.kill(victim)
        result = running.result(timeout=240)
    assert result["lag"] == 0
    check(database, sent)
    assert drain("runners:*")["read"] == 0


def test_a_share_that_dask_runs_again_changes_nothing(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    """It does so if the worker that has the result of a completed task dies (PrefectHQ/prefect 15442)."""
    configure(batch_rows=BATCH)
    sent = fill(redis_client)
    names = [f"runners:{at}" for at in range(STREAMS)]
    assert sum(one.read for one in drain_share(names, None, None).results) == sent
    assert sum(one.read for one in drain_share(names, None, None).results) == 0
    check(database, sent)


def test_a_runner_that_is_not_installed_is_refused(
    redis_client: redis.Redis,
    database: psycopg.Connection,
    configure: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(task_runner="ray")
    monkeypatch.setitem(sys.modules, "prefect_ray", None)
    fill(redis_client)
    with pytest.raises(Terminal, match=r"pip install 'spillway\[ray\]'"):
        drain("runners:*")
    assert table_rows(database) == {}
