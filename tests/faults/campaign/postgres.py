"""Faults of PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Sequence
from typing import ClassVar

import psycopg

from infra.servers.engine import StopMode
from infra.servers.process import ProcessEngine
from tests.faults.campaign.fault import Fault, any_point
from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.testbed import FaultTestbed
from tests.support.pause_points import Point
from tests.support.processes import Drain, Outcome

_MOST_CONNECTIONS = 2_000


class Restarted(Fault):
    """The server is stopped in one of three ways, and started again."""

    lasts = (0, 1)
    how: ClassVar[StopMode]

    @classmethod
    def impossible(cls, testbed: FaultTestbed) -> str | None:
        return None if testbed.engine else "the servers were given by URL: they cannot be stopped here"

    def inject(self, drains: Sequence[Drain]) -> None:
        self.testbed.stop("timescaledb", self.how)

    def heal(self, drains: Sequence[Drain]) -> None:
        self.testbed.start("timescaledb")


class RestartedFast(Restarted):
    """`pg_ctl restart -m fast`."""

    how = "fast"


class RestartedImmediate(Restarted):
    """`pg_ctl restart -m immediate`: a recovery."""

    how = "immediate"


class KilledServer(Restarted):
    """SIGKILL to all processes of the server, as in a power cut."""

    how = "kill"


class BackendTerminated(Fault):
    """`pg_terminate_backend` for one connection of a drain, in the middle of its COPY or at any moment."""

    lasts = (0, 0)

    def moment(self) -> Point | float:
        return any_point(self.rng, ["in copy"]) if self.rng.random() < 0.7 else super().moment()

    def inject(self, drains: Sequence[Drain]) -> None:
        query = """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'spillway%'
             ORDER BY query LIKE 'COPY%%' DESC LIMIT 1"""
        with self.testbed.sql() as connection:
            connection.execute(query)

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return [f"a drain failed: {outcome.error}" for outcome in outcomes if outcome.error]


class BackendFrozen(Fault):
    """One backend of a drain stops, as if its disk hung, and continues after its statement_timeout."""

    lasts = (0.5, 4)
    _pid: int | None = None

    @classmethod
    def impossible(cls, testbed: FaultTestbed) -> str | None:
        return None if isinstance(testbed.engine, ProcessEngine) else "the server's processes are not of this machine"

    def inject(self, drains: Sequence[Drain]) -> None:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'spillway%' ORDER BY backend_start, pid"
        with self.testbed.sql() as connection:
            pids = [pid for (pid,) in connection.execute(query)]
        if pids:
            self._pid = self.rng.choice(pids)
            self._signal(signal.SIGSTOP)

    def heal(self, drains: Sequence[Drain]) -> None:
        self._signal(signal.SIGCONT)

    def clean(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)


class StatementTooSlow(Fault):
    """Every range takes longer than statement_timeout, until the server is fast again."""

    lasts = (1, 4)

    def prepare(self, series: FaultSeries) -> None:
        with self.testbed.sql() as connection:
            connection.execute(_trigger_function("NULL"))
            connection.execute(
                "CREATE OR REPLACE TRIGGER campaign BEFORE INSERT ON spillway.ledger"
                " FOR EACH ROW EXECUTE FUNCTION public.campaign()"
            )

    def inject(self, drains: Sequence[Drain]) -> None:
        with self.testbed.sql() as connection:
            connection.execute(_trigger_function("pg_sleep(30)"))

    def heal(self, drains: Sequence[Drain]) -> None:
        with self.testbed.sql() as connection:
            connection.execute(_trigger_function("NULL"))

    def clean(self) -> None:
        with self.testbed.sql() as connection:
            connection.execute("DROP FUNCTION IF EXISTS public.campaign CASCADE")


def _trigger_function(act: str) -> str:
    return (
        "CREATE OR REPLACE FUNCTION public.campaign() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM {act}; RETURN NEW; END $$"
    )


class TableLocked(Fault):
    """Another session holds `events` in ACCESS EXCLUSIVE MODE for longer than lock_timeout."""

    lasts = (0.5, 2.5)

    def __init__(self, testbed: FaultTestbed, rng: random.Random) -> None:
        super().__init__(testbed, rng)
        self._locker: psycopg.Connection | None = None

    def inject(self, drains: Sequence[Drain]) -> None:
        self._locker = self.testbed.sql()
        self._locker.execute("BEGIN")
        # The lock waits for the ranges that are being loaded, so a drain that is paused in one must continue.
        self._locker.execute("SET lock_timeout = '1s'")
        with contextlib.suppress(psycopg.errors.LockNotAvailable):
            self._locker.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")

    def heal(self, drains: Sequence[Drain]) -> None:
        self.clean()

    def clean(self) -> None:
        if self._locker is not None:
            self._locker.close()


class NoConnectionLeft(Fault):
    """All max_connections are in use."""

    def __init__(self, testbed: FaultTestbed, rng: random.Random) -> None:
        super().__init__(testbed, rng)
        self._taken: list[psycopg.Connection] = []

    def moment(self) -> Point | float:
        return any_point(self.rng, ["before preflight", "before plan", "before load"])

    def inject(self, drains: Sequence[Drain]) -> None:
        with contextlib.suppress(psycopg.OperationalError):
            while len(self._taken) < _MOST_CONNECTIONS:
                self._taken.append(self.testbed.sql())

    def heal(self, drains: Sequence[Drain]) -> None:
        self.clean()

    def clean(self) -> None:
        for connection in self._taken:
            connection.close()
        self._taken.clear()


class ReadOnly(Fault):
    """default_transaction_read_only, as after a failover to a standby or if an operator protects the server."""

    lasts = (0.5, 2)

    def inject(self, drains: Sequence[Drain]) -> None:
        self._set("ALTER SYSTEM SET default_transaction_read_only = on")

    def heal(self, drains: Sequence[Drain]) -> None:
        self._set("ALTER SYSTEM RESET default_transaction_read_only")

    def clean(self) -> None:
        self._set("ALTER SYSTEM RESET default_transaction_read_only")

    def _set(self, statement: str) -> None:
        with self.testbed.sql() as connection:
            connection.execute(statement)
            connection.execute("SELECT pg_reload_conf()")
        time.sleep(0.05)  # every backend gets the reload by a signal


# `tests/faults/campaign/disk.py` fills a small disk.
