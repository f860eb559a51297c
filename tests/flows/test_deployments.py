"""The deployments as typed, on a real Prefect server: on a worker, and served by one process."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import orjson
import psycopg
import pytest
import redis

from flows.drain import drain
from infra.producers.send import send
from tests.support.flow_runs import failed_with, last_run
from tests.support.oracle import flat_rows, table_rows
from tests.support.prefect_server import deploy_all, run_prefect
from tests.support.programs import BIN
from tests.support.stream_entries import add_entries, event


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


def test_serve_runs_the_deployment_in_one_process_unless_a_work_pool_has_it(
    worker: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    serve = [BIN / "spillway", "serve"]
    refused = subprocess.run(serve, env=env, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "deployed to the work pool 'spillway'" in refused.stderr
    run_prefect(env, "deployment", "delete", worker)
    entries = [event(n) for n in range(200)]
    send(redis_client, stream, entries)
    log = tmp_path / "serve.log"
    with log.open("wb") as output:
        quick = env | {"PREFECT_RUNNER_POLL_FREQUENCY": "1"}
        serving = subprocess.Popen(serve, env=quick, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 90
        while worker not in log.read_text():
            assert serving.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        runs_every_minute_one_at_a_time(inspect(env))
        run_prefect(env, "deployment", "run", worker, "--param", f"stream={stream}", "--watch")
        assert table_rows(database) == flat_rows(entries)
    finally:
        serving.terminate()
        serving.wait(timeout=60)
        # As the other tests expect it.
        run_prefect(env, "deployment", "delete", worker)
        deploy_all(env)


@pytest.mark.usefixtures("prefect_server")
def test_every_deployment_of_prefect_yaml_names_a_flow_that_exists() -> None:
    import importlib

    import yaml
    from prefect import Flow

    from infra.settings import PROJECT_ROOT

    for deployment in yaml.safe_load((PROJECT_ROOT / "prefect.yaml").read_text())["deployments"]:
        path, _, name = deployment["entrypoint"].partition(":")
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        assert isinstance(getattr(module, name), Flow)
