"""`spillway health`: a probe for containers."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer
from pydantic_core import PydanticCustomError

from infra.errors.exceptions import WrongUse
from infra.errors.exit_codes import ExitCode
from infra.output import error, result
from infra.setting_values import read_age
from infra.settings import settings
from tasks.preflight.health import liveness_fault, readiness_faults

app = typer.Typer()


@app.command("health")
def health_command(
    live: Annotated[bool, typer.Option("--live", help="Exit code 1 only if a restart may help.")] = False,
    within: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="With --live: 1 if no run has ended or loaded anything for so long, such as 30m, although both servers"
            " answer. A run that failed has ended.",
        ),
    ] = None,
) -> None:
    """Probe for containers: exit code 0 if runs can work here, 1 if not. Takes seconds at most, and needs no Prefect.

    Without an option, it is a readiness probe: settings, mapping file, both servers and the schema.
    """
    config = settings()
    if within is not None and not live:
        raise WrongUse("health: --within needs --live; add --live")
    if live:
        fault = None if within is None else liveness_fault(config, _duration(within))
        faults = [] if fault is None else [fault]
    else:
        faults = readiness_faults(config)
    for one in faults:
        error(one)
    if faults:
        raise typer.Exit(ExitCode.FAILED)
    result("live" if live else "ready")


def _duration(text: str) -> timedelta:
    try:
        found = read_age(text)
    except PydanticCustomError as fault:
        raise WrongUse(f"health: --within: {fault}, found {text!r}") from None
    if not isinstance(found, timedelta):
        raise WrongUse("health: --within: expected a positive duration such as 15m, found none")
    return found
