"""`spillway status --watch` in a terminal of 24 lines, and without one."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import psycopg
import pytest
import redis
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Failed

from tests.support.command_line import RunSpillway
from tests.support.programs import BIN
from tests.support.redis_server import redis_port, running_redis
from tests.support.status import drained, on_schedule
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(600)


@contextmanager
def watching(env: dict[str, str], *arguments: str, **more: str) -> Iterator[pexpect.spawn[bytes]]:
    """`spillway status --watch` in a terminal; Ctrl-C at the end must end it in order."""
    child = pexpect.spawn(
        str(BIN / "spillway"), ["status", "--watch", *arguments], env={**env, "TERM": "xterm", **more},
        dimensions=(24, 80), timeout=240,
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


@contextmanager
def failed_run(client: SyncPrefectClient) -> Iterator[None]:
    deployment = client.read_deployment_by_name("drain/scheduled").id
    run = client.create_flow_run_from_deployment(deployment, state=Failed(message="no"))
    try:
        yield
    finally:
        client.delete_flow_run(run.id)


@pytest.mark.parametrize("streams", [4, 40])
def test_watch_shows_the_last_attention_line_on_a_screen_of_24_lines(
    streams: int, prefect_server: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    names = [f"events-{n:02}" for n in range(streams)]
    drained(redis_client, names)
    database.execute("UPDATE spillway.streams SET inserted = inserted + 1 WHERE name = 'events-01'")
    last = "attention: 1 entry waits in quarantine: spillway quarantine list"
    with get_client(sync_client=True) as client, on_schedule(client), failed_run(client), watching(env, "0.5") as child:
        child.expect(r"\x1b\[H([^\x1b]*until Ctrl-C.*?)\x1b\[J")
        lines = re.sub(r"\x1b\[[0-9;]*[mK]", "", child.match.group(1).decode()).replace("\r", "").split("\n")
    assert lines.pop() == ""
    assert sum(1 + max(0, len(line) - 1) // 80 for line in lines) <= 23
    assert lines[0].endswith("until Ctrl-C")
    assert last in lines
    assert lines[-1].startswith("attention: the last run of drain/scheduled ended as Failed")
    assert any(line.startswith("service") for line in lines)
    assert len([line for line in lines if line.startswith("events-")]) >= 3


def test_watch_prints_one_page_after_the_other_where_there_is_no_screen(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        command = [BIN / "spillway", "status", "--watch", "0.5"]
        process = subprocess.Popen(command, env=env | {"PREFECT_API_URL": ""}, stdout=output, stderr=output)
    try:
        wait_until(lambda: log.read_text().count("until Ctrl-C") >= 3, shown=log.read_text)
        process.send_signal(signal.SIGINT)
        assert process.wait(240) == 0
    finally:
        process.kill()
    assert "\x1b" not in log.read_text()
    assert "Traceback" not in log.read_text()


def test_seconds_without_watch_are_refused(env: dict[str, str], command_line: RunSpillway) -> None:
    code, out, err = command_line("status", "5")
    assert (code, out) == (2, "")
    assert "spillway status --watch 5" in err
