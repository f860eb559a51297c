"""`spillway health`, as a container engine calls it."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from flows.plain.drain import drain
from infra.connections.short_timeouts import short_timeouts
from infra.errors.exceptions import Unsuccessful
from infra.producers.send import send
from infra.settings import Settings
from tests.support.command_line import RunSpillway
from tests.support.ports import free_port
from tests.support.programs import BIN
from tests.support.redis_server import redis_port
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

PATIENT = {"connect_timeout": 600, "redis_timeout": 3600, "statement_timeout": 3600}


def test_the_limits_of_a_probe_are_below_the_timeouts_of_container_engines() -> None:
    limits = short_timeouts(Settings(_env_file=None, **PATIENT))  # type: ignore[arg-type]
    assert limits.connect_timeout + max(limits.redis_timeout, limits.statement_timeout) < 8


@pytest.fixture
def drained_long_ago(redis_client: redis.Redis, database: psycopg.Connection, stream: str) -> None:
    send(redis_client, stream, [event(1)])
    drain(stream)
    database.execute("UPDATE spillway.successes SET succeeded_at = now() - interval '20 minutes'")
    database.execute("UPDATE spillway.streams SET settled_at = NULL, loaded_at = now() - interval '25 minutes'")
    database.execute("UPDATE spillway.schema_version SET applied_at = now() - interval '1 day'")


def test_it_is_ready_if_both_servers_and_the_schema_are(
    command_line: RunSpillway, database: psycopg.Connection
) -> None:
    wait_until(lambda: command_line("health") == (0, "ready\n", ""))  # a busy machine may be slower than a probe
    assert command_line("health", "--live") == (0, "live\n", "")


@pytest.mark.parametrize("variable", ["redis_url", "database_url"])
@pytest.mark.parametrize("silent", [True, False], ids=["silent", "refused"])
@pytest.mark.usefixtures("drained_long_ago")
def test_a_server_that_does_not_answer_is_not_ready_and_no_reason_for_a_restart(
    variable: str, silent: bool, command_line: RunSpillway, configure: Callable[..., Settings]
) -> None:
    scheme = "redis" if variable == "redis_url" else "postgresql"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        port = listener.getsockname()[1] if silent else free_port()
        # A probe has limits of its own: with those of the user it would wait for an hour.
        configure(**{variable: f"{scheme}://:Kq7xW9z@127.0.0.1:{port}/0"}, **PATIENT)
        code, out, err = command_line("health")
        assert (code, out) == (1, "")
        (line,) = err.splitlines()
        assert line.startswith("error: health: ")
        assert f"127.0.0.1:{port}" in line
        assert "Kq7xW9z" not in line
        assert command_line("health", "--live", "--within", "15m") == (0, "live\n", "")


def test_every_fault_is_a_line(
    command_line: RunSpillway, database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    mappings = tmp_path / "spillway.toml"
    mappings.write_text("[streams.a]\nnonsense = 1\n")
    configure(mappings=mappings, redis_url=f"redis://127.0.0.1:{free_port()}/0")
    database.execute("INSERT INTO spillway.schema_version (version, name) VALUES (9999, 'later')")
    try:
        code, out, err = command_line("health")
    finally:
        database.execute("DELETE FROM spillway.schema_version WHERE version = 9999")
    assert (code, out) == (1, "")
    mapping, schema, server = err.splitlines()
    assert str(mappings) in mapping
    assert "newer than this release" in schema
    assert "Redis at 127.0.0.1" in server


@pytest.mark.usefixtures("drained_long_ago")
def test_it_is_not_live_if_nothing_has_ended_for_too_long(
    command_line: RunSpillway, database: psycopg.Connection, stream: str
) -> None:
    code, out, err = command_line("health", "--live", "--within", "15m")
    assert (code, out) == (1, "")
    assert "expected a run that ended or loaded something within 15 minutes, the last one was 2" in err
    assert command_line("health", "--live", "--within", "25m")[0] == 0
    drain(stream)  # nothing is new, and that is a success
    assert command_line("health", "--live", "--within", "15m")[0] == 0
    database.execute("DELETE FROM spillway.successes")
    database.execute("UPDATE spillway.streams SET settled_at = NULL, loaded_at = NULL")
    code, _, err = command_line("health", "--live", "--within", "15m")
    assert (code, "within 15 minutes, found none;" in err) == (1, True)
    database.execute("UPDATE spillway.schema_version SET applied_at = now()")
    assert command_line("health", "--live", "--within", "15m")[0] == 0


@pytest.mark.usefixtures("drained_long_ago")
def test_a_drain_that_fails_has_ended_since_a_restart_would_not_help(
    command_line: RunSpillway, database: psycopg.Connection, redis_client: redis.Redis, stream: str
) -> None:
    """One stream went back, which every drain refuses; the others have nothing new."""
    redis_client.xadd("events-zzz", event(2), id="9-0")  # type: ignore[arg-type]
    drain("events-zzz")
    redis_client.delete("events-zzz")
    redis_client.xadd("events-zzz", event(3), id="5-0")  # type: ignore[arg-type]
    database.execute("UPDATE spillway.successes SET succeeded_at = now() - interval '20 minutes'")
    database.execute("UPDATE spillway.streams SET settled_at = NULL, loaded_at = NULL")
    assert command_line("health", "--live", "--within", "15m")[0] == 1
    with pytest.raises(Unsuccessful, match="went back"):
        drain("events*")
    assert command_line("health", "--live", "--within", "15m") == (0, "live\n", "")
    assert "failed drain" not in command_line("metrics")[1]


@pytest.mark.usefixtures("drained_long_ago")
def test_a_backfill_that_loads_makes_progress(
    command_line: RunSpillway, database: psycopg.Connection, stream: str
) -> None:
    assert command_line("health", "--live", "--within", "15m")[0] == 1
    database.execute("UPDATE spillway.streams SET loaded_at = now() WHERE name = %s", [stream])
    assert command_line("health", "--live", "--within", "15m")[0] == 0


@pytest.mark.usefixtures("drained_long_ago")
def test_a_server_that_refuses_this_program_is_no_reason_for_a_restart(
    command_line: RunSpillway, database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    database.execute("INSERT INTO spillway.schema_version (version, name) VALUES (9999, 'later')")
    database.execute("UPDATE spillway.schema_version SET applied_at = now() - interval '1 day'")
    try:
        assert command_line("health", "--live", "--within", "15m") == (0, "live\n", "")
    finally:
        database.execute("DELETE FROM spillway.schema_version WHERE version = 9999")
    assert command_line("health", "--live", "--within", "15m")[0] == 1
    with redis_port(tmp_path / "redis") as port, redis.Redis(port=port) as client:
        client.config_set("requirepass", "right")
        configure(redis_url=f"redis://:Kq7xW9z@127.0.0.1:{port}/0")
        assert command_line("health")[0] == 1
        assert command_line("health", "--live", "--within", "15m") == (0, "live\n", "")


def test_wrong_options_and_settings_are_code_2(command_line: RunSpillway, configure: Callable[..., Settings]) -> None:
    assert command_line("health", "--within", "15m")[0] == 2
    for wrong in ("soon", "", "0s"):
        assert command_line("health", "--live", "--within", wrong)[0] == 2


def test_an_invalid_setting_is_code_2(command_line: RunSpillway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLWAY_RETRIES", "many")
    assert command_line("health", "--live")[0] == 2


def test_it_takes_less_than_a_second_of_processor_time_and_imports_no_prefect(
    env: dict[str, str], database: psycopg.Connection
) -> None:
    code = (
        "import json, sys; sys.argv = ['spillway', 'health']\nfrom flows.cli.main import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules} & {'prefect', 'pandas', 'pyarrow'})))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([BIN / "python", "-c", code], env=env, capture_output=True, text=True, timeout=240)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    ready, modules = done.stdout.splitlines()
    assert (ready, json.loads(modules)) == ("ready", [])
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
