"""`SPILLWAY_LOG_FORMAT=json`: every line on standard error is one JSON object, also those of libraries."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis
from prefect import get_client

from flows.deployments import deploy, deployments
from infra.producers.send import send
from infra.settings import PROJECT_ROOT, settings
from tests.support.oracle import flat_rows, table_rows
from tests.support.programs import BIN
from tests.support.serving import serving
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

LEVELS = {"debug", "info", "warning", "error", "critical"}
SECRETS = ("analytics_pass", "Kq7xW9z")
SPAWNED = {"PREFECT_LOGGING_LEVEL": "INFO"}  # what Prefect's lines need in a test


def lines_of(text: str) -> list[dict[str, Any]]:
    """The objects of a log, each with the fields that all have, and without a password."""
    found: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    for line in found:
        assert list(line)[:4] == ["time", "level", "logger", "message"]
        assert line["time"].endswith("Z")
        assert datetime.fromisoformat(line["time"]).tzinfo is not None
        assert line["level"] in LEVELS
    assert text.isascii()
    assert not [secret for secret in SECRETS if secret in text]
    return found


def run(env: Mapping[str, str], *arguments: str, **more: str) -> tuple[int, str, list[dict[str, Any]]]:
    """Run a command. Its exit code, standard output, and the lines of standard error."""
    environment = {**env, "SPILLWAY_LOG_FORMAT": "json", **more}
    done = subprocess.run(
        [BIN / "spillway", *arguments], env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    return done.returncode, done.stdout, lines_of(done.stderr)


def test_a_drain_without_prefect_logs_its_warnings_and_its_error_as_json(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    bad = [{b"event_id": f":boom: \u2028\x1b[31m {n}".encode()} for n in range(200)]
    send(redis_client, "events-web", [event(1), *bad])
    redis_client.xadd(b"events-\xff", {"a": "b"})
    code, out, lines = run(
        env, "drain", "-s", "events*", "--json", "--verbose", PREFECT_API_URL="", SPILLWAY_MAX_BAD_SHARE="0.1"
    )
    assert (code, json.loads(out)["quarantined"]) == (1, 200)
    warnings = [line["message"] for line in lines if line["level"] == "warning"]
    assert any("is skipped" in text for text in warnings)
    assert lines[-1]["level"] == "error"
    assert "events-web" in lines[-1]["message"]
    assert table_rows(database) == flat_rows([event(1)])


@pytest.mark.usefixtures("prefect_server")
def test_a_drain_with_prefect_logs_the_lines_of_its_flow_and_task_runs_too(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    send(redis_client, "events-web", [event(1)])
    code, _, lines = run(env, "drain", "-s", "events-web", "--verbose", **SPAWNED)
    assert code == 0
    (begun,) = [line for line in lines if "Beginning flow run" in line["message"]]
    assert (begun["logger"], begun["flow"]) == ("prefect.flow_runs", "drain")
    assert re.fullmatch(r"[0-9a-f-]{36}", begun["flow_run_id"])
    assert begun["flow_run"].startswith("drain events-web ")
    ended = [line for line in lines if line["logger"] == "prefect.task_runs"]
    assert {line["flow_run_id"] for line in ended} == {begun["flow_run_id"]}
    assert all(line["task_run"] and line["task_run_id"] for line in ended)
    assert ended


@pytest.mark.parametrize(
    ("arguments", "more", "code", "expected"),
    [
        (["drain", "--strem", "x"], {}, 2, "--stream"),
        (["nothing"], {}, 2, "nothing"),
        (["status"], {"SPILLWAY_RETRIES": "many"}, 2, "SPILLWAY_RETRIES"),
        (["status"], {"SPILLWAY_RETRYS": "1"}, 2, "SPILLWAY_RETRIES"),
        (["quarantine", "list"], {"SPILLWAY_DATABASE_URL": "postgresql://a:Kq7xW9z@127.0.0.1:9/x"}, 1, "127.0.0.1:9"),
    ],
)
def test_an_error_is_one_json_line(
    tmp_path: Path, arguments: list[str], more: dict[str, str], code: int, expected: str
) -> None:
    found, out, lines = run({"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}, *arguments, **more)
    assert (found, out) == (code, "")
    (line,) = lines
    assert (line["level"], line["logger"]) == ("error", "spillway")
    assert expected in line["message"]
    assert "\n" not in line["message"]


def test_the_exception_is_a_field(env: dict[str, str], tmp_path: Path) -> None:
    """A Redis that is away, with the traceback asked for."""
    away = {"SPILLWAY_REDIS_URL": "redis://u:Kq7xW9z@127.0.0.1:9/0", "SPILLWAY_RETRIES": "1", "SPILLWAY_DEBUG": "1"}
    code, out, lines = run(env, "drain", "-s", "events", PREFECT_API_URL="", **away)
    assert (code, out) == (1, "")
    retry, error = lines
    assert retry["level"] == "warning"
    assert "trying again (1 of 1): " in retry["message"]
    assert error["exception"]["type"] == "Transient"
    assert "preflight.py" in error["exception"]["traceback"]
    assert error["exception"]["message"] == error["message"]


def test_what_a_setting_in_the_env_file_says_holds_for_the_message_about_another_one(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SPILLWAY_LOG_FORMAT=json\nSPILLWAY_RETRIES=many\n")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [BIN / "spillway", "status"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    (line,) = lines_of(done.stderr)
    assert "SPILLWAY_RETRIES" in line["message"]


@pytest.mark.usefixtures("nothing_deployed")
def test_serve_the_runs_in_it_and_runs_on_a_worker_log_json(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, tmp_path: Path
) -> None:
    """All that `serve` prints, on both outputs: a tick's drain, and a run that Prefect's server planned. Then what a
    worker's process starts for a run, in the environment of such a process."""
    log = tmp_path / "log"
    send(redis_client, "events-web", [event(1)])
    mine = env | SPAWNED | {"SPILLWAY_LOG_FORMAT": "json"}
    with serving(mine, log, "--every", "1s") as served:
        wait_until(lambda: table_rows(database) == flat_rows([event(1)]), shown=log.read_text)
        due = planned_run("reconcile/daily")
        with get_client(sync_client=True) as client:
            wait_until(lambda: client.read_flow_run(due).state_name == "Completed", shown=log.read_text)
        assert served.end() == 0
    lines = lines_of(log.read_text())
    drained = [line for line in lines if line.get("flow") == "drain"]
    assert {line["logger"] for line in drained} >= {"prefect.flow_runs", "prefect.task_runs"}
    in_its_process = [line for line in lines if line.get("flow_run_id") == str(due)]
    assert any(line.get("flow") == "reconcile" for line in in_its_process)
    assert any(line["message"].startswith("ended: ") for line in lines)

    send(redis_client, "events-web", [event(2)])
    documented = dict(re.findall(r"^(PREFECT_LOGGING_\w+)=(\S+)$", settings_page(), re.MULTILINE))
    assert len(documented) == 2
    deploy([one for one in deployments(settings()) if one.full_name == "drain/scheduled"], "json-lines")
    due = planned_run("drain/scheduled")
    command = [BIN / "prefect", "flow-run", "execute", str(due)]
    done = subprocess.run(command, env=mine | documented, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in lines_of(done.stderr) if line.get("flow") == "drain"]
    assert table_rows(database) == flat_rows([event(1), event(2)])


def planned_run(deployment: str) -> UUID:
    """A run of a deployment that is due now."""
    with get_client(sync_client=True) as client:
        return client.create_flow_run_from_deployment(client.read_deployment_by_name(deployment).id).id


def settings_page() -> str:
    return (PROJECT_ROOT / "docs/reference/settings.md").read_text()
