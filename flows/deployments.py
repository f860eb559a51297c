"""The deployments in one process, without work pool and worker."""

from __future__ import annotations

from typing import Any

from prefect import serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.exceptions import ObjectNotFound

from flows.backfill import backfill
from flows.cli.prefect_api import demand_prefect
from flows.drain import drain
from flows.maintain import maintain
from flows.reconcile import reconcile
from flows.redrive import redrive
from infra.errors.exceptions import Terminal

_INTERVAL_SECONDS = 60
# A run that died before it started holds its place for so long.
_GRACE_SECONDS = 60


def serve_deployments() -> None:
    """Register the deployments of prefect.yaml at the Prefect server and run what is due, until interrupted.

    Those that a work pool has are left to it. Raises `Terminal` where the scheduled drain is among them: its workers
    would take the runs and not find the code.
    """
    demand_prefect()
    if pool := _work_pool("drain/scheduled"):
        raise Terminal(
            f"drain/scheduled is deployed to the work pool {pool!r}: let its worker run it (prefect worker start --pool"
            f" {pool}), or take it back first (prefect deployment delete drain/scheduled)"
        )
    # to_deployment is sync here, whatever its type says.
    deployments: list[Any] = [
        drain.to_deployment(
            name="scheduled",
            description="Drains the streams into the events table, exactly once, every minute.",
            parameters={"stream": "events*"},
            interval=_INTERVAL_SECONDS,
            concurrency_limit=ConcurrencyLimitConfig(
                limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW, grace_period_seconds=_GRACE_SECONDS
            ),
        ),
        reconcile.to_deployment(name="daily", parameters={"stream": "*"}, cron="30 4 * * *"),
        maintain.to_deployment(name="daily", cron="15 3 * * *"),
        redrive.to_deployment(name="ad-hoc"),
        backfill.to_deployment(name="ad-hoc"),
    ]
    serve(*[found for found in deployments if not _work_pool(f"{found.flow_name}/{found.name}")])


def _work_pool(deployment: str) -> str | None:
    """The work pool that has it, None where none has."""
    with get_client(sync_client=True) as client:
        try:
            return client.read_deployment_by_name(deployment).work_pool_name
        except ObjectNotFound:
            return None
