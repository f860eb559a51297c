"""The scheduled drain in one process, without work pool and worker."""

from __future__ import annotations

from prefect import serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy

from flows.drain import drain

_INTERVAL_SECONDS = 60


def serve_deployments() -> None:
    """Register `drain/scheduled` at the Prefect server and run what it schedules, until interrupted."""
    scheduled = drain.to_deployment(
        name="scheduled",
        description="Drains the streams into the events table, exactly once, every minute.",
        parameters={"stream": "events*"},
        interval=_INTERVAL_SECONDS,
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
    )
    serve(scheduled)  # type: ignore[arg-type, unused-ignore]  # to_deployment is sync here, whatever its type says
