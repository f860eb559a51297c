"""`spillway metrics`: for Prometheus, over HTTP or as a file for node_exporter."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.run import ended_in_order
from infra.errors.exceptions import WrongUse
from infra.errors.exit_codes import ExitCode
from infra.output import announce, warn
from infra.setting_values import read_listen
from infra.settings import settings

app = typer.Typer()


@app.command("metrics")
def metrics_command(
    textfile: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write a file for node_exporter, with the suffix .prom."),
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="[ADDR:]PORT", help="Answer Prometheus until Ctrl-C or SIGTERM.")
    ] = None,
) -> None:
    """Export metrics for Prometheus: read from the ledger, the catalog and Redis. Without an option, print them.

    A server that does not answer is exported as spillway_up 0. Exit code 1 then, unless it listens.
    """
    config = settings()
    if listen is not None:
        if textfile is not None:
            raise WrongUse("metrics: expected --textfile or --listen, found both; nothing was started")
        check_listen_option("metrics: --listen", listen)
        _listen(listen)
        return
    from flows.metrics_server import metrics_text, write_textfile

    logging.getLogger("spillway.metrics").setLevel(logging.CRITICAL)  # the faults are printed below
    text, faults = metrics_text(config)
    if textfile is None:
        sys.stdout.buffer.write(text.encode())  # UTF-8, as the format wants it, whatever the terminal knows
    else:
        write_textfile(textfile, text)
    for fault in faults.values():
        warn(fault)
    if faults:
        raise typer.Exit(ExitCode.FAILED)


def check_listen_option(option: str, listen: str) -> None:
    """Raise `WrongUse` unless `listen` is `[ADDR:]PORT`."""
    try:
        read_listen(listen)
    except ValueError as error:
        raise WrongUse(f"{option}: {error}, found {listen!r}; nothing was started") from None


def _listen(listen: str) -> None:
    from flows.metrics_server import metrics_served

    logging.basicConfig(format="%(asctime)s | %(levelname)-7s | %(message)s")
    with ended_in_order(), metrics_served(settings(), listen) as url:
        announce(f"metrics: {url}, until Ctrl-C or SIGTERM")
        sys.stdout.flush()
        try:
            while True:
                time.sleep(3600)
        except (KeyboardInterrupt, SystemExit):
            announce("ended")
