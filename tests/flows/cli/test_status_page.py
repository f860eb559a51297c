"""`spillway status` on a screen of 80 columns and 24 lines."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest
import redis
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Failed

from infra.producers.send import send
from infra.settings import settings
from tests.support.command_line import RunSpillway
from tests.support.programs import BIN
from tests.support.screen import on_screen
from tests.support.serving import serving
from tests.support.status import STREAMS, drained, on_schedule
from tests.support.stream_entries import event

pytestmark = pytest.mark.timeout(600)


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
        found_json = status_json(env)
        client.delete_flow_run(run.id)
    assert (shown.code, [one for one in found_json["problems"] if "ended as Failed" in one] != []) == (1, True)
    page = "\n".join(shown.lines)
    assert re.search(r"attention: events-late: entries have waited for \d\d minutes: spillway drain shows what", page)
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


def status_json(env: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run([BIN / "spillway", "status", "--json"], env=env, capture_output=True, text=True, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def paused(client: SyncPrefectClient, name: str) -> Iterator[None]:
    deployment = client.read_deployment_by_name(name).id
    client.pause_deployment(deployment)
    try:
        yield
    finally:
        client.resume_deployment(deployment)


def test_a_paused_deployment_is_named_with_what_to_type(
    prefect_server: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    """So does `spillway serve` leave its deployments when it ends in order."""
    with get_client(sync_client=True) as client, on_schedule(client):
        with paused(client, "drain/scheduled"):
            shown = on_screen(env, "status", columns=200)
        deployment = client.read_deployment_by_name("maintain/daily")
        for schedule in deployment.schedules:
            client.update_deployment_schedule(deployment.id, schedule.id, active=False)
        stopped = on_screen(env, "status", columns=200)
        purposely = on_screen(env, "status", columns=200, SPILLWAY_MAINTAIN_CRON="")
    page = "\n".join(shown.lines)
    assert shown.code == 1
    assert "attention: drain/scheduled is paused: spillway serve ended, or somebody paused it: spillway deploy" in page
    assert "nothing needs attention" not in page
    assert stopped.code == 1
    assert "attention: maintain/daily has no active schedule, although the settings schedule it" in "\n".join(
        stopped.lines
    )
    assert "drain/scheduled is" not in "\n".join(stopped.lines)
    assert purposely.code == 0


@pytest.mark.usefixtures("nothing_deployed")
def test_after_serve_has_ended_in_order_status_says_what_to_start(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, tmp_path: Path
) -> None:
    with serving(env, tmp_path / "log", "--every", "1s") as process:
        assert "is paused" not in on_screen(env, "status").raw
        process.end()
    shown = on_screen(env, "status", columns=200)
    assert shown.code == 1
    assert "drain/scheduled is paused: spillway serve ended, or somebody paused it: spillway serve, or" in shown.raw


def test_without_prefect_the_streams_of_the_settings_are_expected(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    """Timers of systemd and CronJobs: a stream whose drains all failed is in no ledger."""
    minutes_ago = int(time.time() * 1000) - 600_000
    for name in ("events-zzz", "clicks", "other"):
        redis_client.xadd(name, event(1), id=f"{minutes_ago}-0")  # type: ignore[arg-type]
    found = status_json(env | {"PREFECT_API_URL": "", "SPILLWAY_SCHEDULED_STREAMS": "events*,clicks"})
    assert [(one["name"], one["lag"]) for one in found["streams"]] == [("clicks", 1), ("events-zzz", 1)]
    assert re.search(r"clicks and 1 more: entries have waited for \d\d minutes", found["attention"][0])


def test_a_locked_table_is_named_and_the_rest_is_shown_although_nobody_releases_it(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    drained(redis_client, STREAMS)
    with psycopg.connect(settings().database, application_name="someone") as other:
        other.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        patient = {"SPILLWAY_LOCK_TIMEOUT": "3600", "SPILLWAY_STATEMENT_TIMEOUT": "3600"}
        shown = on_screen(env | patient | {"PREFECT_API_URL": ""}, "status", columns=200)
        pid = other.info.backend_pid
    assert f"attention: public.events is locked by session {pid} (someone, idle in transaction), so no" in "\n".join(
        shown.lines
    )
    assert f"spillway psql -c 'SELECT pg_terminate_backend({pid})' ends it" in shown.raw
    assert [name for name in STREAMS if name not in shown.raw] == []
    assert shown.code == 0


@pytest.mark.parametrize(
    "holds", ["LOCK TABLE spillway.ledger IN SHARE MODE", "UPDATE spillway.streams SET lost = lost"]
)
def test_a_transaction_that_somebody_left_open_is_named(
    holds: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    """While a drain waits for it, or would."""
    drained(redis_client, STREAMS)
    drain_waits = Thread(target=database.execute, args=(b"UPDATE spillway.streams SET lost = lost",))
    with psycopg.connect(settings().database, application_name="someone") as other:
        other.execute(holds.encode())
        drain_waits.start()
        time.sleep(11)  # a shorter one is ordinary work
        shown = on_screen(env | {"PREFECT_API_URL": ""}, "status", columns=200)
        assert f"session {other.info.backend_pid} (someone) left a transaction open " in shown.raw
        end = re.search(r"SELECT pg_terminate_backend\(\d+\)", shown.raw)
        assert end is not None
        drain_waits.join(0.1)
        with psycopg.connect(settings().database) as third:
            third.execute(end[0].encode())
        drain_waits.join(240)
        assert not drain_waits.is_alive()
        with suppress(psycopg.Error):
            other.rollback()
    assert "left a transaction open" not in on_screen(env | {"PREFECT_API_URL": ""}, "status", columns=200).raw
