"""A clock that is wrong: the command, or a Redis of the test's own, runs under libfaketime, which shifts its clock."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import redis
from prefect.artifacts import Artifact

from infra.producers.send import send
from tests.support.oracle import flat_rows, table_rows
from tests.support.ports import free_port
from tests.support.programs import BIN
from tests.support.redis_server import await_answer
from tests.support.stream_entries import event

_LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
_SLEEP = str(Path(__file__).parents[1] / "support" / "shifted_clock")
_REDIS = shutil.which("redis-server")
pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.skipif(_LIBRARY is None, reason="there is no libfaketime (Debian: apt-get install faketime)"),
    pytest.mark.skipif(_REDIS is None, reason="there is no redis-server on this machine"),
]


def shifted(seconds: float) -> Mapping[str, str]:
    """The variables with which a process has another clock. Monotonic time, by which it waits, stays right."""
    if not seconds:
        return {}
    # With the C library's malloc: jemalloc, which Redis uses, asks for the time before libfaketime is ready.
    return {"LD_PRELOAD": f"{_LIBRARY}:libc.so.6", "FAKETIME": f"{seconds:+.0f}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@contextmanager
def running_redis(folder: Path, seconds: float) -> Iterator[redis.Redis]:
    """A Redis whose clock is `seconds` ahead."""
    port = free_port()
    command = [str(_REDIS), "--port", str(port), "--save", "", "--appendonly", "yes", "--dir", str(folder)]
    process = subprocess.Popen(command, env=os.environ | shifted(seconds), stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            await_answer(client.ping)
            yield client
    finally:
        process.terminate()
        process.wait(120)


def run(env: dict[str, str], seconds: float, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `spillway` in a process whose clock is `seconds` ahead."""
    command = [BIN / "spillway", *arguments]
    env = env | shifted(seconds) | {"PYTHONPATH": _SLEEP}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)


def entries(count: int) -> list[dict[bytes, bytes]]:
    """Events of this moment."""
    now = datetime.now(UTC)
    return [event(n, time=(now - timedelta(seconds=n)).isoformat()) for n in range(count)]


DAY, HOUR = 86_400, 3_600


def _rounded(error: str) -> str:
    """With differences of about an hour or three days as exact ones: a reading of a clock may take a while."""
    error = re.sub(r"(2 days, 23:5\d:\d\d|3 days, 0:0\d:\d\d)", "3 days, 0:00:00", error)
    return re.sub(r"(?<= )(0:5\d:\d\d|1:0\d:\d\d)", "1:00:00", error)


@pytest.mark.parametrize(
    ("here", "at_redis", "said"),
    [
        (-3 * DAY, 0, "the clock of this machine is 3 days, 0:00:0"),
        (HOUR, 0, "the clock of this machine is 1:00:0"),
        (0, -HOUR, "the clock of Redis is 1:00:0"),
        (HOUR, HOUR, "the clock of PostgreSQL is 1:00:0"),
        (HOUR, -HOUR, "no two of the three clocks agree"),
    ],
)
def test_a_drain_is_refused_and_names_the_clock_that_is_wrong(
    here: int, at_redis: int, said: str, env: dict[str, str], database: psycopg.Connection, stream: str, tmp_path: Path
) -> None:
    with running_redis(tmp_path, at_redis) as client:
        events = entries(300)
        send(client, stream, events)
        env["SPILLWAY_REDIS_URL"] = f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}/0"
        began = datetime.now(UTC)
        done = run(env, here, "drain", "--stream", stream)
        assert done.returncode == 1, done.stdout + done.stderr
        (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert said in _rounded(error)
        for name, ahead in (("this machine", here), ("PostgreSQL", 0), ("Redis", at_redis)):
            hours = {f"{at + timedelta(seconds=ahead):%Y-%m-%dT%H:}" for at in (began, datetime.now(UTC))}
            assert any(f"{name}: {hour}" in error for hour in hours)
        assert "nothing was read or written" in error
        assert database.execute("SELECT count(*) FROM spillway.streams").fetchone() == (0,)
        assert client.xinfo_groups(stream) == []
        if here < -HOUR:  # the same, with the right clock
            assert run(env, 0, "drain", "--stream", stream).returncode == 0
            assert table_rows(database) == flat_rows(events)


def test_a_difference_of_five_minutes_is_a_visible_warning(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    events = entries(300)
    send(redis_client, stream, events)
    done = run(env, -300, "drain", "--stream", stream, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["inserted"] == 300
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert "the clock of this machine is 0:0" in warning
    assert "behind those of PostgreSQL and Redis" in warning
    assert table_rows(database) == flat_rows(events)
    artifact = Artifact.get("drain")
    assert artifact is not None
    assert "the clock of this machine is" in str(artifact.description)


def test_a_warning_is_visible_if_the_drain_fails_too(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [event(99), *(event(n, user_id="") for n in range(50))])
    done = run(env, -300, "drain", "--stream", stream)
    assert done.returncode == 1
    assert "warning: the clock of this machine is" in done.stderr
    assert "50 of 51 entries went to quarantine" in done.stderr


@pytest.mark.parametrize("command", [("maintain",), ("quarantine", "redrive"), ("backfill", "FILE")])
def test_no_other_command_that_depends_on_the_clock_runs_either(
    command: tuple[str, ...], env: dict[str, str], database: psycopg.Connection, tmp_path: Path
) -> None:
    file = tmp_path / "x.ndjson"
    file.write_text("{}\n")
    done = run(env, -3 * DAY, *(str(file) if word == "FILE" else word for word in command))
    assert done.returncode == 1, done.stdout
    assert "the clocks of this machine and PostgreSQL differ by" in done.stderr
    assert "nothing was read or written" in done.stderr


def test_clocks_that_agree_are_not_mentioned(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, entries(3))
    assert "clock" not in run(env, 0, "drain", "--stream", stream).stderr
