"""When a run of each flow last succeeded: a row for each flow, since a drain that finds nothing writes nothing else."""

from __future__ import annotations

from typing import Literal

from infra.connections.clients import Clients
from infra.display import printable
from infra.errors.exceptions import Transient
from tasks.base.run_log import run_logger

RecordedFlow = Literal["drain", "reconcile", "maintain", "archive verify"]

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
        with clients.translate_errors("record the success"), clients.postgres() as connection:
            if connection.execute(_READ_ONLY).fetchone() == (False,):
                connection.execute(_RECORD, [flow])
    except Transient as error:
        run_logger().warning(printable(str(error)))
