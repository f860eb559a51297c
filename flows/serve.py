"""The scheduled drain in one process, without work pool and worker."""

from __future__ import annotations

from prefect import serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.exceptions import ObjectNotFound

from flows.api import demand_prefect
from flows.drain import drain
from infra.errors import Terminal

_INTERVAL_SECONDS = 60


def serve_deployments() -> None:
    """Register `drain/scheduled` at the Prefect server and run what it schedules, until interrupted.

    Raises `Terminal` where a work pool has that deployment: its workers would take the runs and not find the code.
    """
    demand_prefect()
    _demand_no_work_pool("drain/scheduled")
    scheduled = drain.to_deployment(
        name="scheduled",
        description="Drains the streams into the events table, exactly once, every minute.",
        parameters={"stream": "events*"},
        interval=_INTERVAL_SECONDS,
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
    )
    serve(scheduled)  # type: ignore[arg-type, unused-ignore]  # to_deployment is sync here, whatever its type says


def _demand_no_work_pool(name: str) -> None:
    with get_client(sync_client=True) as client:
        try:
            pool = client.read_deployment_by_name(name).work_pool_name
        except ObjectNotFound:
            return
    if pool:
        raise Terminal(
            f"{name} is deployed to the work pool {pool!r}: let its worker run it (prefect worker start --pool {pool}),"
            f" or take it back first (prefect deployment delete {name})"
        )
