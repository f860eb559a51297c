"""The deployments as typed, on a real Prefect server: on a worker, and served by one process."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import orjson
import psycopg
import pytest
import redis
from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import IntervalSchedule

from flows.deployments import deploy, deployments
from flows.drain import drain
from infra.producers.send import send
from infra.settings import Settings, settings
from tests.support.command_line import assert_one_error
from tests.support.flow_runs import failed_with, last_run
from tests.support.oracle import flat_rows, table_rows
from tests.support.prefect_server import deploy_all, run_prefect
from tests.support.programs import BIN
from tests.support.stream_entries import add_entries, event
from tests.support.waiting import wait_until


def inspect(env: dict[str, str]) -> dict[str, object]:
    found: dict[str, object] = orjson.loads(
        run_prefect(env, "deployment", "inspect", "drain/scheduled", "--output", "json")
    )
    return found


def runs_every_minute_one_at_a_time(deployment: dict[str, object]) -> None:
    (schedule,) = deployment["schedules"]  # type: ignore[misc, var-annotated]
    assert schedule["schedule"]["interval"] in (60, 60.0)
    limit = deployment.get("global_concurrency_limit") or {}
    assert deployment.get("concurrency_limit") == 1 or limit["limit"] == 1  # type: ignore[index]
    assert deployment["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"  # type: ignore[index]


def test_a_deployment_run_on_a_worker_drains_the_stream(
    worker: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    entries = [event(n) for n in range(300)]
    send(redis_client, stream, entries)
    run_prefect(env, "deployment", "run", worker, "--param", f"stream={stream}", "--watch")
    assert table_rows(database) == flat_rows(entries)
    runs_every_minute_one_at_a_time(inspect(env))


def test_a_failed_run_fails_the_command(worker: str, env: dict[str, str], database: psycopg.Connection) -> None:
    command = [BIN / "prefect", "deployment", "run", worker, "--param", "stream=no-such-stream", "--watch"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert table_rows(database) == {}


def test_a_run_of_a_worker_that_has_recorded_a_loss_is_failed_with_the_loss_as_message(
    worker: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    add_entries(redis_client, stream, 0, 10)
    drain(stream)
    add_entries(redis_client, stream, 10, 20)
    redis_client.xtrim(stream, maxlen=4, approximate=False)
    command = [BIN / "prefect", "deployment", "run", worker, "--param", f"stream={stream}", "--watch"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    run = last_run()
    assert run.deployment_id is not None
    assert failed_with(run, f"6 entries of {stream} with ids in")
    assert table_rows(database) == flat_rows(event(n) for n in (*range(10), *range(16, 20)))


def test_serve_is_refused_while_a_work_pool_has_the_scheduled_drain(prefect_server: str, env: dict[str, str]) -> None:
    deploy_all(env)
    refused = subprocess.run([BIN / "spillway", "serve"], env=env, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "deployed to the work pool 'spillway'" in refused.stderr
    assert "prefect deployment delete drain/scheduled" in refused.stderr


@pytest.mark.usefixtures("nothing_deployed")
def test_serve_runs_the_deployments_in_one_process(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str, tmp_path: Path
) -> None:
    entries = [event(n) for n in range(200)]
    send(redis_client, stream, entries)
    with served(env, tmp_path / "serve.log"):
        runs_every_minute_one_at_a_time(inspect(env))
        run_prefect(env, "deployment", "run", "drain/scheduled", "--param", f"stream={stream}", "--watch")
    assert table_rows(database) == flat_rows(entries)
    assert set(registered()) == set(ALL)


@contextmanager
def served(env: dict[str, str], log: Path) -> Iterator[None]:
    """`spillway serve`, from when it has registered its deployments."""
    with log.open("wb") as output:
        quick = env | {"PREFECT_RUNNER_POLL_FREQUENCY": "1"}
        serving = subprocess.Popen([BIN / "spillway", "serve"], env=quick, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "drain/scheduled" in log.read_text() or serving.poll() is not None, shown=log.read_text)
        assert serving.poll() is None, log.read_text()
        yield
    finally:
        serving.terminate()
        serving.wait(timeout=240)


ALL = ("drain/scheduled", "reconcile/daily", "maintain/daily", "redrive/ad-hoc", "backfill/ad-hoc")


def registered() -> dict[str, DeploymentResponse]:
    """The deployments that the Prefect server has, by name."""
    with get_client(sync_client=True) as client:
        flows = {flow.id: flow.name for flow in client.read_flows()}
        return {f"{flows[one.flow_id]}/{one.name}": one for one in client.read_deployments()}


def schedules() -> dict[str, list[str]]:
    """Each deployment's schedules: seconds or a cron expression."""
    return {
        name: [str(getattr(one.schedule, "cron", None) or one.schedule.interval.total_seconds()) for one in d.schedules]  # type: ignore[union-attr]
        for name, d in registered().items()
    }


def deploy_as(env: dict[str, str], *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`spillway deploy` with other settings."""
    return subprocess.run(
        [BIN / "spillway", "deploy", *arguments], env=env | settings, capture_output=True, text=True, check=False
    )


BY_DEFAULT = {
    "drain/scheduled": ["60.0"],
    "reconcile/daily": ["30 4 * * *"],
    "maintain/daily": ["15 3 * * *"],
    "redrive/ad-hoc": [],
    "backfill/ad-hoc": [],
}
OTHERWISE = BY_DEFAULT | {"drain/scheduled": ["300.0"], "reconcile/daily": [], "maintain/daily": ["0 2 * * 0"]}
OTHER_SETTINGS = {
    "scheduled_streams": "orders, web-*", "drain_every": "5m", "reconcile_cron": "", "maintain_cron": "0 2 * * 0",
}  # fmt: skip


@pytest.mark.usefixtures("nothing_deployed")
def test_settings_decide_what_is_scheduled_and_when(configure: Callable[..., Settings]) -> None:
    """Also when they change: the schedule that is switched off is removed."""
    deploy(deployments(settings()), "spillway")
    assert schedules() == BY_DEFAULT
    assert registered()["drain/scheduled"].parameters == {"stream": ["events*"], "time_limit": 45.0}
    assert registered()["reconcile/daily"].parameters == {"stream": "*", "files": False}
    deploy(deployments(configure(**OTHER_SETTINGS)), "spillway")
    assert schedules() == OTHERWISE
    assert registered()["drain/scheduled"].parameters == {"stream": ["orders", "web-*"], "time_limit": 225.0}
    deploy(deployments(configure(drain_time_limit="20s")), "spillway")
    assert registered()["drain/scheduled"].parameters["time_limit"] == 20.0
    deploy(deployments(configure(drain_every="", drain_time_limit="")), "spillway")
    assert registered()["drain/scheduled"].parameters["time_limit"] is None


@pytest.mark.usefixtures("nothing_deployed")
def test_serve_removes_a_schedule_that_was_switched_off(env: dict[str, str], tmp_path: Path) -> None:
    """Prefect's runner keeps the old schedule when the new list is empty."""
    with get_client(sync_client=True) as client:
        hourly = {"schedule": IntervalSchedule(interval=timedelta(hours=1)), "active": True}
        client.create_deployment(client.create_flow_from_name("reconcile"), "daily", schedules=[hourly])  # type: ignore[list-item]
    assert schedules() == {"reconcile/daily": ["3600.0"]}
    with served(env | {f"SPILLWAY_{name.upper()}": value for name, value in OTHER_SETTINGS.items()}, tmp_path / "log"):
        assert schedules() == OTHERWISE


@pytest.mark.usefixtures("nothing_deployed")
def test_deploy_creates_the_pool_that_is_named_and_says_how_to_run_a_worker(env: dict[str, str]) -> None:
    done = deploy_as(env, "--pool", "elsewhere")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith("prefect worker start --pool elsewhere")
    assert {one.work_pool_name for one in registered().values()} == {"elsewhere"}
    with get_client(sync_client=True) as client:
        assert client.read_work_pool("elsewhere").type == "process"
        client.delete_work_pool("elsewhere")


@pytest.mark.usefixtures("nothing_deployed")
def test_an_invalid_cron_expression_is_refused_and_nothing_is_deployed(env: dict[str, str]) -> None:
    done = deploy_as(env, SPILLWAY_MAINTAIN_CRON="daily at three")
    assert done.returncode == 2
    assert_one_error(done.stderr, "SPILLWAY_MAINTAIN_CRON", "'daily at three'")
    assert registered() == {}


@pytest.mark.usefixtures("nothing_deployed")
def test_prefects_form_explains_every_parameter_and_offers_fixed_choices(env: dict[str, str]) -> None:
    deploy_all(env)
    found = registered()
    assert set(found) == set(ALL)
    properties = {name: (one.parameter_openapi_schema or {})["properties"] for name, one in found.items()}
    unexplained = [(name, field) for name in ALL for field, it in properties[name].items() if not it.get("description")]
    assert unexplained == []
    assert sum(map(len, properties.values())) == 36
    choices = {
        ("backfill/ad-hoc", "expired"): ["fail", "skip", "load"],
        ("redrive/ad-hoc", "kind"): ["refused", "conflict"],
    }
    for (name, field), expected in choices.items():
        it = properties[name][field]
        assert next(one["enum"] for one in [it, *it.get("anyOf", [])] if "enum" in one) == expected


def test_runs_are_named_after_what_they_do_and_when(
    worker: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    add_entries(redis_client, stream, 0, 5)
    run_prefect(env, "deployment", "run", worker, "--param", f"stream={stream}", "--watch")
    run = last_run()
    assert run.expected_start_time is not None
    assert run.name == f"drain {stream} {run.expected_start_time:%H:%M}"
    assert run.tags == ["spillway"]
    (loaded_by,) = database.execute("SELECT DISTINCT loaded_by FROM spillway.ledger").fetchall()
    assert loaded_by[0].startswith(f"{run.name} ")


def test_a_run_of_the_command_line_has_the_tags_spillway_and_cli(
    prefect_server: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    add_entries(redis_client, stream, 0, 5)
    command = [BIN / "spillway", "reconcile", "--stream", stream, "--deep"]
    drain(stream)
    assert subprocess.run(command, env=env, capture_output=True, check=False).returncode == 0
    run = last_run()
    assert re.fullmatch(rf"reconcile --deep {stream} \d\d:\d\d", run.name)
    assert sorted(run.tags) == ["cli", "spillway"]
