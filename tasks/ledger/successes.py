"""When a run of each flow last succeeded: a row for each flow, since a drain that finds nothing writes nothing else.

One more row says when a drain last ended with an error, for `spillway health --live --within`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from infra.connections.clients import Clients
from infra.connections.short_timeouts import short_timeouts
from infra.display import printable
from infra.errors.exceptions import SpillwayError, Transient
from tasks.base.run_log import run_logger

RecordedFlow = Literal["drain", "reconcile", "maintain", "archive verify"]
FAILED_DRAIN = "failed drain"  # the flow of the row that is no success

_RECORD = """
    INSERT INTO spillway.successes AS s (flow, succeeded_at) VALUES (%s, clock_timestamp())
        ON CONFLICT (flow) DO UPDATE SET succeeded_at = greatest(s.succeeded_at, excluded.succeeded_at)"""
# A standby, or a managed server whose disk is full.
_READ_ONLY = "SELECT current_setting('transaction_read_only')::boolean"


def record_success(clients: Clients, flow: RecordedFlow) -> None:
    """Record that a run of `flow` succeeds now; on a server that is read-only, do nothing.

    A transient error is a warning: what the run did is committed. Raises `Terminal`.
    """
    try:
        _record(clients, flow)
    except Transient as error:
        run_logger().warning(printable(str(error)))


@contextmanager
def failure_recorded(clients: Clients) -> Iterator[None]:
    """Record that a drain ended, if the block raises an error: it was no success, and the process does not hang.

    Nothing is recorded if the database refuses it or does not answer; the error of the block is the one to report.
    """
    try:
        yield
    except Exception:
        with suppress(SpillwayError), Clients(short_timeouts(clients.settings), clients.command) as quick:
            _record(quick, FAILED_DRAIN)
        raise


def _record(clients: Clients, flow: str) -> None:
    with clients.translate_errors("record the end of the run"), clients.postgres() as connection:
        if connection.execute(_READ_ONLY).fetchone() == (False,):
            connection.execute(_RECORD, [flow])
