"""Commands without a Prefect server of the user's: `serve` starts one, which ends with it; a drain needs none."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest
import redis

from infra.producers.send import send
from tests.support.oracle import flat_rows, table_rows
from tests.support.programs import BIN, PATIENT_SPILLWAY
from tests.support.servers import Servers
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

T = TypeVar("T")

_SECONDS = 240


def _servers_of(process: int) -> list[int]:
    """The Prefect servers that a process has started."""
    found = subprocess.run(["pgrep", "-P", str(process), "-f", "prefect.server"], capture_output=True, check=False)
    return list(map(int, found.stdout.split()))


def _is_watched(server: int) -> bool:
    """Whether the process exists that ends the server after its command."""
    watcher = f"^/bin/sh -c read .* {server}$"
    return subprocess.run(["pgrep", "-f", watcher], capture_output=True, check=False).returncode == 0


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _loading(connection: psycopg.Connection) -> bool:
    waiting = "SELECT FROM pg_stat_activity WHERE application_name LIKE 'spillway%' AND wait_event_type = 'Lock'"
    return connection.execute(waiting).fetchone() is not None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_temporary_server_of_serve_that_a_signal_ended_ends_too(
    number: signal.Signals, servers: Servers, tmp_path: Path
) -> None:
    """The signal comes while the server is starting."""
    command = _start(servers, tmp_path, "serve")
    try:
        (server,) = _await(lambda: _servers_of(command.pid))
        wait_until(lambda: _is_watched(server))
        command.send_signal(number)
        command.wait(timeout=_SECONDS)
    finally:
        command.kill()
        command.wait()
    _await(lambda: not _is_running(server))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_drain_that_a_signal_ends_during_a_load_commits_it(
    number: signal.Signals, servers: Servers, redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    """And no Prefect server was started."""
    entries = [event(1)]
    send(redis_client, stream, entries)
    with psycopg.connect(servers.settings.database) as locking:
        locking.execute("LOCK TABLE public.events IN ACCESS EXCLUSIVE MODE")
        command = _start(servers, tmp_path, "drain", "--stream", stream, program=PATIENT_SPILLWAY)
        try:
            _await(lambda: _loading(database))
            assert _servers_of(command.pid) == []
            command.send_signal(number)
            time.sleep(0.5)
            assert command.poll() is None
            locking.rollback()
            assert command.wait(timeout=_SECONDS) == (130 if number is signal.SIGINT else 128 + number)
        finally:
            command.kill()
            command.wait()
    assert table_rows(database) == flat_rows(entries)


def _start(
    servers: Servers, home: Path, *command: str, program: Sequence[str] = (str(BIN / "spillway"),)
) -> subprocess.Popen[bytes]:
    """A command without a Prefect server, as a user who has never run Prefect."""
    environment = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "SPILLWAY_REDIS_URL": servers.settings.redis,
        "SPILLWAY_DATABASE_URL": servers.settings.database,
        "SPILLWAY_SCHEDULED_STREAMS": '["any"]',
    }
    return subprocess.Popen([*program, *command], env=environment, cwd=home, preexec_fn=_heed_signals)


def _heed_signals() -> None:
    """The tests may run under nohup, whose children ignore SIGHUP."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _await(found: Callable[[], T]) -> T:
    """The result, as soon as it is not empty."""
    results: list[T] = []
    wait_until(lambda: results.append(found()) or results[-1], _SECONDS)  # type: ignore[func-returns-value]
    return results[-1]
