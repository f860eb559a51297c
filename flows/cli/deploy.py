"""`spillway deploy`: the schedule on a work pool, whose workers run the flows."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from flows.environment import set_prefect_defaults
from infra.output import result, warn
from infra.settings import settings

app = typer.Typer()


@app.command("deploy")
def deploy_command(
    pool: Annotated[str, typer.Option(help="The work pool; a process pool is created if there is none.")] = "spillway",
) -> None:
    """Register the scheduled flows with a Prefect work pool. Run it again after changing the settings."""
    set_prefect_defaults()
    from flows.cli.prefect_api import require_prefect
    from flows.deployments import deploy, deployments

    config = settings()
    found = deployments(config)
    require_prefect(needs_redis=False)
    deploy(found, pool)
    for one in found:
        result(f"{one.full_name:<18}  {one.when}")
    if config.drain_every is not None and config.drain_every < timedelta(minutes=1):
        warn(
            f"SPILLWAY_DRAIN_EVERY is {config.drain_every.total_seconds():g} s: each run on a work pool is a process of"
            " its own, which takes seconds of processor time; `spillway serve` drains in one process"
        )
    result(f"deployed to the work pool {pool}; a worker runs them: prefect worker start --pool {pool}")
