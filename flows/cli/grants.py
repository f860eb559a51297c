"""`spillway grants`: the rights that a command needs, as SQL to paste."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from psycopg.conninfo import conninfo_to_dict

from infra.errors.exceptions import Terminal
from infra.settings import DATABASE, settings
from tasks.preflight.rights import NEEDS, rights, statements

app = typer.Typer()


@app.command("grants")
def grants_command(
    role: Annotated[str, typer.Argument(help="The role that runs the command.")],
    command: Annotated[str, typer.Option("--for", help="One of: " + ", ".join(NEEDS) + ".")] = "drain",
    table: Annotated[
        list[str] | None, typer.Option(help="A table that rows go to; may be repeated. Without it: events.")
    ] = None,
) -> None:
    """Print the SQL that gives a role the rights to run a command, and no others. Connects to no server.

    For example: spillway grants etl | psql -d analytics
    """
    if command not in NEEDS:
        raise Terminal(f"grants: --for {command!r}: expected one of: {', '.join(NEEDS)}")
    parts: dict[str, Any] = conninfo_to_dict(settings().database)
    database = parts.get("dbname") or parts.get("user") or DATABASE
    if NEEDS[command].owner:
        print(f"-- {command} must also be run by the owner of the table, or by a member of that role")
    for statement in statements([right for right in rights(command, table) if right.kind != "OWNER"], role, database):
        print(f"{statement};")
