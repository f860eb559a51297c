"""A Redis with the options of one test, and the command line against it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from infra.connections.clients import Clients
from infra.errors.exceptions import Terminal
from infra.settings import Settings
from tests.support.ports import free_port
from tests.support.programs import BIN
from tests.support.waiting import wait_until

REDIS = shutil.which("redis-server")
PATIENCE = 60  # seconds for an answer: a busy machine is no fault


def await_answer(ask: Callable[[], object]) -> None:
    """Ask a server that was just started until it answers."""

    def answers() -> bool:
        try:
            ask()
        except redis.AuthenticationError:  # an answer as well
            raise
        except redis.ConnectionError:
            return False
        return True

    wait_until(answers, every=0.05)


def await_written(client: redis.Redis) -> None:
    """Wait until the append-only file has everything that was sent, so that a kill of the server loses nothing."""
    wait_until(lambda: client.info("persistence")["aof_buffer_length"] == 0)


@contextmanager
def running_redis(*options: str, answers: Callable[[], object]) -> Iterator[None]:
    """A Redis with these options; the block starts when it answers."""
    command = [str(REDIS), "--save", "", "--appendonly", "no", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        await_answer(answers)
        yield
    finally:
        process.terminate()
        process.wait(120)


@contextmanager
def redis_port(folder: Path, *options: str) -> Iterator[int]:
    """The port of a Redis with these options."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    common = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder))
    with redis.Redis(port=port) as client, running_redis(*common, *options, answers=client.ping):
        yield port


def settings_of(url: str, **values: object) -> Settings:
    patient: dict[str, object] = {"connect_timeout": PATIENCE, "redis_timeout": PATIENCE}
    return Settings(redis_url=url, _env_file=None, **{**patient, **values})  # type: ignore[arg-type]


def run_spillway(url: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SPILLWAY_REDIS_URL": url, "SPILLWAY_CONNECT_TIMEOUT": f"{PATIENCE}"} | variables
    return subprocess.run(
        [BIN / "spillway", *arguments], env=environment, capture_output=True, text=True, check=False, timeout=240
    )


def refusal(url: str, **values: object) -> Terminal:
    config = settings_of(url, **values)
    with pytest.raises(Terminal) as refused, Clients(config) as clients, clients.translate_errors("look"):
        clients.redis.ping()
    return refused.value
