"""`spillway serve --every 1s`: the drain in the serving process, with a real Prefect server."""

from __future__ import annotations

import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import redis
from prefect import get_client

from flows.cli.schedule_status import DeploymentStatus, deployment_statuses
from infra.producers.send import send
from tests.support.command_line import assert_one_error
from tests.support.deployments import runs_of_serve
from tests.support.oracle import flat_rows, table_rows
from tests.support.prefect_server import run_prefect
from tests.support.programs import BIN, PATIENT_SPILLWAY
from tests.support.redis_server import redis_port, running_redis
from tests.support.serving import serving
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("nothing_deployed"), pytest.mark.timeout(600)]


def states() -> list[str]:
    return [run.state_name or "" for run in runs_of_serve()]


def drain_status(later: timedelta = timedelta(0)) -> DeploymentStatus:
    with get_client(sync_client=True) as client:
        (found,) = [
            one for one in deployment_statuses(client, datetime.now(UTC) + later) if one.name == "drain/scheduled"
        ]
        return found


def test_rows_follow_their_entries_and_an_idle_tick_makes_no_run(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    first, second = [[event(n) for n in range(at, at + 50)] for at in (0, 50)]
    with serving(env, log, "--every", "1s") as served:
        send(redis_client, "events-web", first)
        wait_until(lambda: table_rows(database) == flat_rows(first), shown=log.read_text)
        send(redis_client, "events-web", second)
        wait_until(lambda: table_rows(database) == flat_rows([*first, *second]), shown=log.read_text)
        wait_until(lambda: bool(states()) and set(states()) == {"Completed"}, shown=log.read_text)
        before = len(states())
        time.sleep(5)  # a few ticks that find nothing
        assert len(states()) == before
        found = drain_status()
        assert (found.every, found.scheduled, found.problem) == (1.0, True, None)
        assert found.last is not None
        assert found.last.state == "Completed"
        stale = drain_status(later=timedelta(minutes=5))
        assert "start spillway serve --every 1s" in (stale.problem or "")
        run_prefect(env, "deployment", "run", "drain/scheduled", "--param", "stream=events-web", "--watch")
        assert served.end() == 0
    assert "ended: " in log.read_text()
    assert drain_status().every is None


def test_a_restart_of_redis_ends_nothing_and_is_a_failed_run(
    env: dict[str, str], database: psycopg.Connection, tmp_path: Path
) -> None:
    log, folder = tmp_path / "log", tmp_path / "redis"
    entries = [event(n) for n in range(20)]
    with redis_port(folder) as port:
        mine = env | {"SPILLWAY_REDIS_URL": f"redis://127.0.0.1:{port}/0", "SPILLWAY_CONNECT_TIMEOUT": "2"}
        with serving(mine, log, "--every", "1s") as served:
            with redis.Redis(port=port) as client:
                client.shutdown(nosave=True)
            wait_until(lambda: "Failed" in states(), shown=log.read_text)
            assert served.process.poll() is None
            again = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder))
            with redis.Redis(port=port) as client, running_redis(*again, answers=client.ping):
                send(client, "events-web", entries)
                wait_until(lambda: table_rows(database) == flat_rows(entries), shown=log.read_text)
                assert served.end() == 0


def test_a_signal_right_after_the_start_ends_it_in_order_too(
    env: dict[str, str], database: psycopg.Connection, tmp_path: Path
) -> None:
    """Although Prefect's runner is still starting."""
    with serving(env, tmp_path / "log", "--every", "1s") as served:
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(timeout=240) == 0
    assert "did not stop in order" not in (tmp_path / "log").read_text()
    assert drain_status().every is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_in_order_and_running_loads_are_committed(
    number: signal.Signals, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection,
    servers: object, tmp_path: Path,
) -> None:  # fmt: skip
    """A lock holds the load up while the signal arrives."""
    log = tmp_path / "log"
    entries = [event(n) for n in range(100)]
    with serving(env, log, "--every", "1s", program=PATIENT_SPILLWAY) as served:
        with psycopg.connect(env["SPILLWAY_DATABASE_URL"]) as locking:
            locking.execute("LOCK TABLE public.events IN EXCLUSIVE MODE")  # readers pass, the insert waits
            send(redis_client, "events-web", entries)
            blocked = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'public.events'::regclass AND NOT granted"
            wait_until(lambda: database.execute(blocked).fetchone() == (True,), shown=log.read_text)
            served.process.send_signal(number)
            time.sleep(1)
        assert served.process.wait(timeout=240) == 0, log.read_text()
    assert table_rows(database) == flat_rows(entries)


@pytest.mark.parametrize("value", ["5", "0s", "soon", "", "-1s", "99999999999999d"])
def test_a_wrong_interval_is_refused_before_anything_starts(value: str, env: dict[str, str]) -> None:
    command = [BIN / "spillway", "serve", "--every", value]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert_one_error(done.stderr, "--every", "expected a")
