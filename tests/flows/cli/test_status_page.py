"""`spillway status` on a screen of 80 columns and 24 lines, and `--watch`."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pexpect
import psycopg
import pytest
import redis
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Failed, Scheduled

from flows.deployments import deploy, deployments
from infra.producers.send import send
from infra.settings import settings
from tests.support.command_line import RunSpillway
from tests.support.programs import BIN
from tests.support.redis_server import redis_port, running_redis
from tests.support.screen import on_screen
from tests.support.serving import wait_until
from tests.support.stream_entries import event

pytestmark = pytest.mark.timeout(180)

STREAMS = [f"events-{name}" for name in ("web", "app", "billing", "devices")]


def drained(client: redis.Redis, names: list[str]) -> None:
    """Streams with ten events, and one entry in quarantine."""
    from flows.plain.drain import drain

    for at, name in enumerate(names):
        send(client, name, [event(10 * at + n) for n in range(10)])
    send(client, names[0], [{b"event_id": b"no uuid"}])
    drain(names)


@contextmanager
def on_schedule(client: SyncPrefectClient) -> Iterator[None]:
    """The deployments with their schedules, and a run of each that is due in 5 hours. Afterwards all is as before."""
    before = {one.id for one in client.read_deployments()}
    deploy(deployments(settings()), "spillway")
    found = [one for one in client.read_deployments() if one.schedules]
    due = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=5))
    planned = [client.create_flow_run_from_deployment(one.id, state=due).id for one in found]
    try:
        yield
    finally:
        for run in planned:
            client.delete_flow_run(run)
        for one in client.read_deployments():
            if one.id not in before:
                client.delete_deployment(one.id)
            for schedule in one.schedules if one.id in before else ():
                client.update_deployment_schedule(one.id, schedule.id, active=False)


def test_an_ordinary_set_up_fits_on_one_screen(
    prefect_server: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    drained(redis_client, STREAMS)
    send(redis_client, "events-web", [event(900 + n) for n in range(5)])
    with get_client(sync_client=True) as client, on_schedule(client):
        shown = on_screen(env, "status")
    assert shown.code == 0
    assert len(shown.lines) < 24
    assert max(map(len, shown.lines)) <= 80
    page = "\n".join(shown.lines)
    assert [name for name in STREAMS if name not in page] == []
    for part in ("healthy", "drain/scheduled", "in 5 h", "public.events", "without a schedule: backfill/ad-hoc"):
        assert part in page
    assert shown.lines[-1] == "attention: 1 entry waits in quarantine: spillway quarantine list"


def test_a_failed_run_and_a_stream_that_waits_need_attention(
    prefect_server: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    minutes_ago = int(time.time() * 1000) - 600_000
    redis_client.xadd("events-late", event(1), id=f"{minutes_ago}-0")  # type: ignore[arg-type]
    redis_client.xadd("events-new", event(2))  # type: ignore[arg-type]
    with get_client(sync_client=True) as client, on_schedule(client):
        (found,) = [one for one in client.read_deployments() if one.name == "scheduled"]
        run = client.create_flow_run_from_deployment(found.id, state=Failed(message="no"))
        shown = on_screen(env, "status", columns=200)
        client.delete_flow_run(run.id)
    page = "\n".join(shown.lines)
    assert "attention: events-late: entries have waited for 10 minutes: spillway drain shows what keeps them" in page
    assert "attention: the last run of drain/scheduled ended as Failed: its log in Prefect" in page
    assert "events-new: entries" not in page
    assert "nothing needs attention" not in page


def test_many_streams_fill_the_screen_and_the_furthest_behind_come_first(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, command_line: RunSpillway
) -> None:
    names = [f"events-{n:02}" for n in range(40)]
    drained(redis_client, names)
    send(redis_client, names[33], [event(5000 + n) for n in range(7)])
    send(redis_client, names[34], [event(6000 + n) for n in range(3)])
    mine = env | {"PREFECT_API_URL": ""}
    shown = on_screen(mine, "status")
    assert len(shown.lines) <= 24
    first, second = [line for line in shown.lines if line.startswith("events-")][:2]
    assert (first.split()[:2], second.split()[:2]) == ([names[33], "7"], [names[34], "3"])
    listed = len([line for line in shown.lines if line.startswith("events-")])
    assert f"and {40 - listed} more streams" in "\n".join(shown.lines)
    tall = on_screen(mine, "status", lines=70)
    assert len([line for line in tall.lines if line.startswith("events-")]) == 40


def test_json_has_everything_that_the_page_has(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    drained(redis_client, STREAMS)
    command = [BIN / "spillway", "status", "--json"]
    done = subprocess.run(command, env=env | {"PREFECT_API_URL": ""}, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert {"servers", "schedule", "quarantine", "streams", "problems", "chunks", "attention"} == set(found)
    assert {(one["schema"], one["table"]) for one in found["chunks"]} == {("public", "events")}
    assert found["attention"] == ["1 entry waits in quarantine: spillway quarantine list"]


def test_totals_that_do_not_balance_need_attention(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    drained(redis_client, STREAMS)
    database.execute("UPDATE spillway.streams SET inserted = inserted + 1 WHERE name = 'events-app'")
    shown = on_screen(env | {"PREFECT_API_URL": ""}, "status")
    assert "attention: the totals of events-app do not balance: spillway reconcile says where" in shown.lines


@contextmanager
def watching(env: dict[str, str], *arguments: str, **more: str) -> Iterator[pexpect.spawn[bytes]]:
    """`spillway status --watch` in a terminal; Ctrl-C at the end must end it in order."""
    child = pexpect.spawn(
        str(BIN / "spillway"), ["status", "--watch", *arguments], env={**env, "TERM": "xterm", **more},
        dimensions=(24, 80), timeout=30,
    )  # fmt: skip
    try:
        yield child
        child.sendintr()
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0
        assert b"Traceback" not in (child.before or b"")
    finally:
        child.close(force=True)


def test_watch_refreshes_in_place_and_survives_a_server_that_is_away(
    env: dict[str, str], database: psycopg.Connection, tmp_path: Path
) -> None:
    folder = tmp_path / "redis"
    with redis_port(folder) as port:
        url = {"SPILLWAY_REDIS_URL": f"redis://127.0.0.1:{port}/0", "PREFECT_API_URL": ""}
        with watching(env | url, "0.5") as child:
            child.expect(r"\x1b\[H[^\x1b]*every 0.5 s until Ctrl-C")
            child.expect(r"redis +healthy")
            with redis.Redis(port=port) as client:
                client.shutdown(nosave=True)
                child.expect("Connection refused")
                again = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder))
                with running_redis(*again, answers=client.ping):
                    child.expect(r"redis +healthy")


def test_watch_prints_one_page_after_the_other_where_there_is_no_screen(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        command = [BIN / "spillway", "status", "--watch", "0.5"]
        process = subprocess.Popen(command, env=env | {"PREFECT_API_URL": ""}, stdout=output, stderr=output)
    try:
        wait_until(lambda: log.read_text().count("until Ctrl-C") >= 3, 30, log)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
    assert "\x1b" not in log.read_text()
    assert "Traceback" not in log.read_text()


def test_seconds_without_watch_are_refused(env: dict[str, str], command_line: RunSpillway) -> None:
    code, out, err = command_line("status", "5")
    assert (code, out) == (2, "")
    assert "spillway status --watch 5" in err
