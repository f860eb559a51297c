"""Steps are retried as often as the current settings say, and report their retries to the subscribers of their flow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from prefect import flow

from infra.connections.clients import Clients
from infra.errors.exceptions import Terminal, Transient
from infra.settings import Settings, settings
from tasks.base.progress import ProgressEvent, Retry, subscribe
from tasks.base.step import Step, step
from tasks.base.workers import Workers


@pytest.fixture
def set_retries(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    def change(number: int) -> None:
        monkeypatch.setenv("SPILLWAY_RETRIES", str(number))
        settings.cache_clear()

    yield change
    settings.cache_clear()


def failing(error: Exception, retries: int = 100) -> tuple[Step[[], None], list[int]]:
    """A step that always fails, without delays, and a list that grows with its attempts."""
    attempts: list[int] = []

    @step("fail", retries=retries)
    def fail() -> None:
        attempts.append(1)
        raise error

    fail.delays = [0.0]
    return fail, attempts


def test_a_changed_setting_applies_to_a_step_that_is_already_imported(set_retries: Callable[[int], None]) -> None:
    fail, _ = failing(Transient("x"))
    limited, _ = failing(Transient("x"), retries=2)
    for number in (0, 1, 5, 100):
        set_retries(number)
        assert fail.retries == number
        assert limited.retries == min(number, 2)


def test_importing_reads_no_settings_and_does_not_change_arrows_memory_pool() -> None:
    code = """
import pyarrow
before = pyarrow.default_memory_pool().backend_name
import tasks.ledger.settle, tasks.preflight.preflight, tasks.streams.reader, tasks.table.load, tasks.table.redrive
assert pyarrow.default_memory_pool().backend_name == before
from tasks.base.arrow_memory import use_system_allocator
use_system_allocator()
assert pyarrow.default_memory_pool().backend_name == "system"
"""
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"SPILLWAY_RETRIES": "x"}, check=True, timeout=240)


def by_a_flow(fail: Step[[], None]) -> None:
    flow(lambda: fail(), name="flow")()


def by_another_step(fail: Step[[], None]) -> None:
    step("outer", retries=0)(fail)()


def by_another_step_of_a_flow(fail: Step[[], None]) -> None:
    flow(lambda: by_another_step(fail), name="flow")()


def in_a_thread_of_a_step(fail: Step[[], None]) -> None:
    def outer() -> None:
        with Clients(settings()) as clients, Workers(clients, 1) as workers:
            workers.submit(fail).result()

    flow(lambda: step("outer", retries=0)(outer)(), name="flow")()


CALLERS = [Step.__call__, by_a_flow, by_another_step, by_another_step_of_a_flow, in_a_thread_of_a_step]


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("call", CALLERS, ids=lambda call: call.__name__)
def test_a_transient_error_is_retried_and_each_retry_is_reported_to_the_subscribers_of_that_flow(
    call: Callable[[Step[[], None]], None], configure: Callable[..., Settings]
) -> None:
    configure(retries=3)
    fail, attempts = failing(Transient("the server is away"))
    mine: list[ProgressEvent] = []
    others: list[ProgressEvent] = []

    with subscribe(others.append):
        pass
    with subscribe(mine.append), pytest.raises(Transient, match="the server is away"):
        call(fail)
    assert len(attempts) == 4
    assert mine == [Retry("the server is away", attempt, 3) for attempt in (1, 2, 3)]
    assert others == []


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("call", CALLERS, ids=lambda call: call.__name__)
def test_a_terminal_error_is_not_retried(
    call: Callable[[Step[[], None]], None], configure: Callable[..., Settings]
) -> None:
    configure(retries=3)
    fail, attempts = failing(Terminal("the data is wrong"))

    with pytest.raises(Terminal, match="the data is wrong"):
        call(fail)
    assert len(attempts) == 1
