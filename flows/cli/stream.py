"""`spillway stream`: decisions about a stream that only a person can make."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from infra.connections.clients import Clients
from infra.display import count_of, display_name
from infra.output import result
from infra.settings import settings

app = typer.Typer(no_args_is_help=True, help="Decisions about a stream that only a person can make.")


@app.command("accept-rewind")
def accept_rewind_command(
    stream: Annotated[str, typer.Argument(help="The stream.")],
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Even though the totals of the ledger do not balance.")
    ] = False,
) -> None:
    """Drain the stream from its start, as if it were new. Its old totals stay, under another name.

    For a stream that was deleted and created again, restored from an older copy, or that lost its newest entries in a
    failover. Events that are already in the table are counted as duplicates.
    """
    from tasks.ledger.names import accept_rewind

    with (
        Clients(settings(), "stream accept-rewind") as clients,
        clients.translate_errors("accept-rewind"),
        clients.postgres() as connection,
    ):
        old = accept_rewind(connection, stream, anyway)
    result(f"{display_name(stream)} will be drained from its start; its old totals are kept as {display_name(old)}")


@app.command("accept-loss")
def accept_loss_command(stream: Annotated[str, typer.Argument(help="The stream.")]) -> None:
    """Accept that the entries lost so far are lost for good, so that reconcile no longer exits with 3.

    The loss stays in the totals, along with who accepted it and when. It does not cover later losses.
    """
    from tasks.ledger.accept_loss import accept_loss

    with (
        Clients(settings(), "stream accept-loss") as clients,
        clients.translate_errors("accept-loss"),
        clients.postgres() as connection,
    ):
        newly, total = accept_loss(connection, stream, getpass.getuser())
    lost = count_of(newly, f"lost entry of {display_name(stream)} is", f"lost entries of {display_name(stream)} are")
    result(f"{lost} now accepted, {total:,} in all")


@app.command("recover")
def recover_command(
    stream: Annotated[str, typer.Argument(help="The stream.")],
    since: Annotated[str | None, typer.Option(help="Only losses since this entry id or ISO 8601 time.")] = None,
    until: Annotated[str | None, typer.Option(help="Only losses up to this entry id or ISO 8601 time.")] = None,
) -> None:
    """Undo losses that were recorded by mistake: entries that are still in the stream but were never read.

    The ledger is cut back to what was read, and the next drain loads the rest. Entries that no longer exist stay lost.
    """
    from tasks.base.addresses import parse_range
    from tasks.reconcile.recover import recover_stream

    ids = parse_range(since, until) if since or until else None
    with Clients(settings(), "stream recover") as clients:
        found = recover_stream(clients, stream, ids)
    name = display_name(stream)
    for part in found.ranges:
        result(f"no longer in the ledger: {part}")
    result(
        f"{count_of(found.entries, 'entry', 'entries')} will be drained (spillway drain --stream {name});"
        f" {found.lost:,} stay lost"
    )
