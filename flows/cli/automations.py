"""`spillway automations`: notifications of Prefect about losses and violations."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.environment import set_prefect_defaults
from flows.prefect_server import has_prefect_server
from infra.errors.exceptions import WrongUse
from infra.output import result

app = typer.Typer()


@app.command("automations")
def automations_command(
    notify: Annotated[
        str, typer.Option(metavar="TYPE/NAME", help="The notification block, such as slack-webhook/ops.")
    ],
) -> None:
    """Let Prefect send a notification when entries are lost or maintain finds a violation. Safe to repeat."""
    set_prefect_defaults(quiet=True)
    if not has_prefect_server():  # a temporary one would forget them
        raise WrongUse("automations: expected a Prefect server, found none; set PREFECT_API_URL to yours and try again")
    from flows.automations import create_automations
    from flows.cli.prefect_api import require_prefect, translate_prefect_errors

    require_prefect(needs_redis=False)
    with translate_prefect_errors():
        for name, done in create_automations(notify):
            result(f"{done}: {name}")
