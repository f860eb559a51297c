"""`spillway serve`: the schedule in one process, without a work pool or a worker."""

from __future__ import annotations

import typer

from flows.environment import set_prefect_defaults
from infra.settings import settings

app = typer.Typer()


@app.command("serve")
def serve_command() -> None:
    """Run the scheduled flows in this process: no work pool and no worker, for small set-ups."""
    set_prefect_defaults()
    from flows.cli.prefect_api import require_prefect
    from flows.deployments import deployments, serve

    found = deployments(settings())
    require_prefect()
    serve(found)
