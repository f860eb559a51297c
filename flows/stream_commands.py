"""`spillway stream`: what a person decides about a stream."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.connections import Clients
from infra.display import display_name
from infra.settings import settings

app = typer.Typer(no_args_is_help=True, help="What a person decides about a stream.")


@app.callback()
def _several() -> None:
    """Keeps the name of the only command."""


@app.command("accept-rewind")
def accept_rewind_command(stream: Annotated[str, typer.Argument(help="The stream that went back.")]) -> None:
    """Drain what the stream holds now as if it were new; its old books stay, under another name.

    For a stream that was deleted and made anew, restored from an older copy, or lost its end in a failover. Events that
    are in the table already are counted as duplicates.
    """
    from tasks.rewind import accept_rewind

    with Clients(settings()) as clients, clients.explained("accept-rewind"), clients.postgres() as connection:
        old = accept_rewind(connection, stream)
    shown = display_name(stream)
    print(f"{shown} will be drained from its start; its books so far are now those of {display_name(old)}")
