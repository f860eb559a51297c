"""`spillway mapping`: check how entries become rows, and propose it. Nothing is written."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.connections.clients import Clients
from infra.output import progress, result
from infra.settings import settings

app = typer.Typer(no_args_is_help=True, help="Check a mapping against a sample, or propose one. Writes nothing.")

_Source = Annotated[str, typer.Option("--stream", "-s", metavar="STREAM|FILE", help="A stream, or a file or URL.")]


@app.command("suggest")
def suggest_command(
    source: _Source,
    table: Annotated[str | None, typer.Option(help="A table that exists. Default: a new one is proposed too.")] = None,
    only_sql: Annotated[bool, typer.Option("--sql", help="Print only the SQL that creates the table.")] = False,
) -> None:
    """Propose a mapping for a stream or a file, and a table for it, from up to 20,000 entries or rows.

    For example: spillway mapping suggest -s orders --sql | spillway psql,
    then: spillway mapping suggest -s orders >> spillway.toml
    """
    from tasks.mapping.suggest_mapping import document_lines, suggest_mapping

    with Clients(settings(), "mapping suggest") as clients:
        found = suggest_mapping(clients, source, table)
    progress(f"{source}: {found.sampled:,} entries or rows were read; check the proposal")
    if not only_sql:
        for line in document_lines(found):
            result(line)
    elif found.sql is not None:
        for line in found.sql.split("\n"):
            result(line)
    else:
        progress(f"the table {found.table} exists already: there is nothing to create")
