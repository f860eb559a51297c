"""`spillway deploy`: the schedule on a work pool, whose workers run the flows."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.environment import set_prefect_defaults
from infra.output import result
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

    found = deployments(settings())
    require_prefect(needs_redis=False)
    deploy(found, pool)
    for one in found:
        result(f"{one.full_name:<18}  {one.when}")
    result(f"deployed to the work pool {pool}; a worker runs them: prefect worker start --pool {pool}")
