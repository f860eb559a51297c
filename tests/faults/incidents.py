"""What happens to production now and then, and the alerts that have to report it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis

from infra.servers.engine import Engine
from tests.support.programs import BIN
from tests.support.serving import Serving, serving
from tests.support.stream_entries import event

STREAM = "events-watched"
ALERT_SECONDS = 120.0
UNREADABLE = "soon"  # the time of an event that cannot become a row


@dataclass
class Scene:
    """Production: both servers, a producer, and `spillway serve` with its settings `env`. `folder`: for their logs."""

    database: str
    client: redis.Redis
    engine: Engine
    env: Mapping[str, str]
    folder: Path
    producer: subprocess.Popen[bytes] | None = None
    _served: ExitStack = field(default_factory=ExitStack)
    _serving: Serving | None = None
    _next: int = 1_000_000

    def spillway(self, *arguments: str, codes: Sequence[int] = (0,)) -> None:
        """Run a command of the user's, which must end with one of the exit codes."""
        command = [str(BIN / "spillway"), *arguments]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode in codes, f"{arguments}: exit code {done.returncode}: {done.stdout}{done.stderr}"

    def sql(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.database, connect_timeout=10)

    def events(self, count: int, **changes: str) -> list[dict[bytes, bytes]]:
        """New events, with other ids than the producer's."""
        self._next += count
        return [event(number, **changes) for number in range(self._next - count, self._next)]

    def serve(self) -> None:
        """Start `spillway serve`."""
        self._serving = self._served.enter_context(serving(self.env, self.folder / f"serve-{time.monotonic_ns()}.log"))

    def kill_serving(self) -> None:
        """As the kernel does it when memory runs out."""
        assert self._serving is not None
        self._serving.process.kill()
        self._serving.process.wait(timeout=30)

    def end_serving(self) -> None:
        """End `spillway serve` in order."""
        self._served.close()

    def end_producer(self) -> None:
        """End the producer, which is a shell and its command."""
        if self.producer is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.producer.pid, signal.SIGTERM)
            self.producer.wait(timeout=30)
            self.producer = None


@dataclass(frozen=True)
class Incident:
    """`happens`: a block while it lasts; it is repaired at the end. `ends`: whether the alerts end with that."""

    name: str
    alerts: tuple[str, ...]
    happens: Callable[[Scene], AbstractContextManager[None]]
    ends: bool = True


@contextmanager
def _redis_stops(scene: Scene) -> Iterator[None]:
    scene.engine.stop("redis")
    try:
        yield
    finally:
        scene.engine.start("redis")


@contextmanager
def _postgres_stops(scene: Scene) -> Iterator[None]:
    scene.engine.stop("timescaledb", "immediate")
    try:
        yield
    finally:
        scene.engine.start("timescaledb")


@contextmanager
def _serving_is_killed(scene: Scene) -> Iterator[None]:
    scene.kill_serving()
    try:
        yield
    finally:
        scene.serve()


@contextmanager
def _lock_is_forgotten(scene: Scene) -> Iterator[None]:
    """Somebody's open transaction lets nobody write to the ledger."""
    with scene.sql() as connection:
        connection.execute("LOCK TABLE spillway.ledger IN SHARE ROW EXCLUSIVE MODE")
        yield
        connection.rollback()


_ADD_AND_DELETE = """
    for number = 1, 5 do
      redis.call('XDEL', KEYS[1], redis.call('XADD', KEYS[1], '*', 'event_id', 'gone-' .. number))
    end"""


@contextmanager
def _entries_are_deleted(scene: Scene) -> Iterator[None]:
    """Between their arrival and the next drain."""
    scene.client.eval(_ADD_AND_DELETE, 1, STREAM)
    try:
        yield
    finally:
        scene.spillway("drain", "--stream", STREAM, codes=(0, 3))
        scene.spillway("stream", "accept-loss", STREAM)


@contextmanager
def _producer_changes(scene: Scene) -> Iterator[None]:
    """A new release of the producer writes times that no table takes."""
    for one in scene.events(5_000, time=UNREADABLE):
        scene.client.xadd(STREAM, one)  # type: ignore[arg-type]
    yield


@contextmanager
def _ledger_is_edited(scene: Scene) -> Iterator[None]:
    """By hand, and repaired as the runbook says."""
    with scene.sql() as connection:
        connection.execute("UPDATE spillway.streams SET read = read + 1")
    try:
        yield
    finally:
        scene.spillway("reconcile", "--stream", STREAM, codes=(1,))
        scene.spillway("schema")
        scene.spillway("reconcile", "--stream", STREAM)


INCIDENTS = (
    Incident("Redis is stopped", ("SpillwayRedisDown",), _redis_stops),
    Incident("PostgreSQL is stopped", ("SpillwayDatabaseDown",), _postgres_stops),
    Incident("a forgotten transaction locks the ledger", ("SpillwayDrainSilent",), _lock_is_forgotten),
    Incident("the serving process is killed", ("SpillwayExporterDown",), _serving_is_killed),
    Incident("a total of the ledger is edited", ("SpillwayLedgerUnbalanced",), _ledger_is_edited),
    Incident("entries are deleted before they are drained", ("SpillwayEntriesLost",), _entries_are_deleted),
    Incident(
        "a producer sends events that cannot be read",
        ("SpillwayQuarantineGrowing", "SpillwayQuarantineGrowingSlowly"),
        _producer_changes,
        ends=False,
    ),
)
