"""`spillway stream`: what a person decides about a stream."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from infra.connections.clients import Clients
from infra.display import display_name
from infra.settings import settings

app = typer.Typer(no_args_is_help=True, help="What a person decides about a stream.")


@app.command("accept-rewind")
def accept_rewind_command(stream: Annotated[str, typer.Argument(help="The stream that went back.")]) -> None:
    """Drain what the stream holds now as if it were new; its old books stay, under another name.

    For a stream that was deleted and made anew, restored from an older copy, or lost its end in a failover. Events that
    are in the table already are counted as duplicates.
    """
    from tasks.ledger.names import accept_rewind

    with (
        Clients(settings(), "stream accept-rewind") as clients,
        clients.translate_errors("accept-rewind"),
        clients.postgres() as connection,
    ):
        old = accept_rewind(connection, stream)
    shown = display_name(stream)
    print(f"{shown} will be drained from its start; its books so far are now those of {display_name(old)}")


@app.command("accept-loss")
def accept_loss_command(stream: Annotated[str, typer.Argument(help="The stream that lost entries.")]) -> None:
    """Put on record that the entries lost so far are lost for good. From then on reconcile no longer ends with code 3.

    The loss stays in the totals, with who has accepted it and when. A later loss is a new one.
    """
    from tasks.ledger.accept_loss import accept_loss

    with (
        Clients(settings(), "stream accept-loss") as clients,
        clients.translate_errors("accept-loss"),
        clients.postgres() as connection,
    ):
        newly, total = accept_loss(connection, stream, getpass.getuser())
    print(f"{newly:,} lost entries of {display_name(stream)} are now accepted, {total:,} in all")


@app.command("recover")
def recover_command(
    stream: Annotated[str, typer.Argument(help="The stream with entries recorded as lost that are there.")],
    start: Annotated[str | None, typer.Option("--from", help="Losses from this entry id or ISO 8601 time on.")] = None,
    stop: Annotated[str | None, typer.Option("--to", help="Losses up to this entry id or ISO 8601 time.")] = None,
) -> None:
    """Take back losses that were recorded wrongly: entries that are in the stream, and were never read.

    The ledger goes back to what was read, and the next drain loads the rest. Entries that are really gone stay lost.
    """
    from tasks.base.addresses import IdRange, parse_from, parse_until
    from tasks.reconcile.recover import recover_stream

    ids = None
    if start or stop:
        ids = IdRange(parse_from(start) if start else 0, parse_until(stop, "to") + 1 if stop else 1 << 128)
    with Clients(settings(), "stream recover") as clients:
        found = recover_stream(clients, stream, ids)
    shown = display_name(stream)
    for part in found.ranges:
        print(f"not drained any more: {part}")
    print(f"{found.entries:,} entries will be drained (spillway drain --stream {shown}); {found.lost:,} stay lost")
