"""`spillway status`, as a person and as a script read it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import psycopg
import pytest
import redis
from prefect.client.orchestration import get_client
from prefect.states import Scheduled

from infra.producers.send import send
from infra.settings import settings
from tests.support.command_line import RunSpillway
from tests.support.prefect_server import deploy_all
from tests.support.stream_entries import event


def test_status_shows_servers_schedule_streams_and_quarantine(
    spillway: RunSpillway, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    from flows.drain import drain

    deploy_all(env)
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=5)
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("drain/scheduled").id
        planned = client.create_flow_run_from_deployment(deployment, state=Scheduled(scheduled_time=due)).id
    send(redis_client, stream, [event(1), {b"event_id": b"no uuid"}])
    drain(stream)
    send(redis_client, stream, [event(2)])
    code, out, err = spillway("status", "--json")
    found = orjson.loads(out)
    assert [one["state"] for one in found["servers"]] == ["healthy", "healthy"]
    assert [(one["name"], one["lag"], one["waiting"]) for one in found["streams"]] == [(stream, 1, 1)]
    assert found["quarantine"] == 1
    assert {one["name"]: one["next_due"] for one in found["schedule"]}["drain/scheduled"] == due.isoformat()
    assert (code, err) == (int(bool(found["problems"])), "")
    _, out, _ = spillway("status")
    assert "attention: 1 entry waits in quarantine: spillway quarantine list" in out
    (line,) = [line for line in out.splitlines() if line.startswith(stream)]
    assert line.split()[1] == "1"
    with get_client(sync_client=True) as client:
        client.delete_flow_run(planned)


def test_status_without_a_prefect_server_says_so_and_shows_the_rest(
    spillway: RunSpillway, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        code, out, err = spillway("status")
    assert code == 1
    assert "healthy" in out
    assert "no Prefect server answers" in out
    assert "http://127.0.0.1:9/api" in err
    assert settings().database not in out + err


def test_the_credentials_of_prefects_url_are_not_shown(spillway: RunSpillway, database: psycopg.Connection) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    for url in ("http://admin:Kq7#xW9z@127.0.0.1:9/api", "http://admin:Kq7xW9z@127.0.0.1:9/api"):
        with temporary_settings({PREFECT_API_URL: url}):
            code, out, err = spillway("status")
        assert code == 1
        assert not [piece for piece in ("Kq7", "xW9z") if piece in out + err]
