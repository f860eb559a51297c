"""The drain of `spillway serve --every`: in the serving process, every few seconds.

A process for each run, as Prefect's runner starts it, costs seconds of processor time. A tick looks for streams with
work first, without Prefect and over connections that stay open; only if there is work does it start a run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from prefect import tags
from prefect.logging import get_logger

from flows.cli.prefect_api import translate_prefect_errors
from flows.drain import drain
from flows.plain.look import streams_with_work
from flows.runs import SERVE_TAG, TAG
from infra.connections.clients import Clients
from infra.errors.exceptions import PrefectUnreachable, SpillwayError
from infra.errors.redact import one_line
from infra.settings import Settings
from tasks.ledger.successes import record_success

_COMMAND = "serve"  # not «drain»: a backfill would yield to the open session
# While the look fails, such as in an outage, a failed run is recorded this often, not at each tick.
_FAILED_RUN_SECONDS = 60.0
# Ticks that find nothing are successful drains. They are recorded this often at most, so that they stay cheap.
_RECORD_SECONDS = 30.0


@dataclass
class DrainLoop:
    """Drains in this process every `every` seconds, one at a time. Use it as a context manager.

    `parameters`: of the flow; `stream` is the list of streams. `ticks`, `runs` and `late` count: all looks, Prefect
    runs, and the ticks that started late because the one before took longer than the interval.
    """

    config: Settings
    every: float
    parameters: dict[str, Any]
    ticks: int = 0
    runs: int = 0
    late: int = 0
    prefect_answers: bool = True
    _clients: Clients | None = field(default=None, repr=False)
    _failed_run_at: float | None = field(default=None, repr=False)
    _recorded_at: float | None = field(default=None, repr=False)

    def __enter__(self) -> DrainLoop:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_clients()

    def run_forever(self) -> None:
        """Tick until an exception ends it, such as that of a signal. Errors of a tick are logged."""
        due = time.monotonic()
        while True:
            self.tick()
            due += self.every
            overdue = time.monotonic() - due
            if overdue <= 0:
                time.sleep(-overdue)
                continue
            self.late += 1
            due += overdue
            _log().warning(
                "late: the tick took %.1f s longer than %g s; the next one starts now (%d of %d ticks were late)",
                overdue, self.every, self.late, self.ticks,
            )  # fmt: skip

    def tick(self) -> None:
        """Look, and drain if there is work. Raises nothing: every error is logged, and the next tick tries again."""
        self.ticks += 1
        try:
            if self._has_work():
                self._drain()
            else:
                self._record_success()
        except PrefectUnreachable as error:
            self.prefect_answers = False
            reason = one_line(error.__cause__ or error)
            _log().error("the Prefect server does not answer, the next tick tries again: %s", reason)
        except SpillwayError as error:
            _log().error("failed, the next tick tries again: %s", one_line(error))
        except Exception:
            _log().exception("failed, the next tick tries again")

    def _has_work(self) -> bool:
        """Whether a run is due. If the look fails, a run that fails as well makes that visible in Prefect."""
        if self._clients is None:
            self._clients = Clients(self.config, _COMMAND)
        try:
            return bool(streams_with_work(self._clients, self.parameters["stream"]))
        except SpillwayError:
            self._close_clients()
            now = time.monotonic()
            if self._failed_run_at is not None and now - self._failed_run_at < _FAILED_RUN_SECONDS:
                raise
            self._failed_run_at = now
            return True

    def _record_success(self) -> None:
        now = time.monotonic()
        if self._clients is not None and (self._recorded_at is None or now - self._recorded_at >= _RECORD_SECONDS):
            record_success(self._clients, "drain")
            self._recorded_at = now

    def _drain(self) -> None:
        self._close_clients()  # the drain opens its own, and afterwards the database may be another one
        self.runs += 1
        with translate_prefect_errors(), tags(TAG, SERVE_TAG):
            drain(**self.parameters)
        self.prefect_answers = True

    def _close_clients(self) -> None:
        if self._clients is not None:
            self._clients.__exit__()
            self._clients = None


def _log() -> Any:
    return get_logger("serve")
