"""`spillway grants`: the rights that a command needs, as SQL or as an ACL of Redis to paste."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from psycopg.conninfo import conninfo_to_dict

from infra.errors.exceptions import Terminal, WrongUse
from infra.settings import DATABASE, settings
from tasks.preflight.redis_rights import COMMANDS, acl_command, redis_rights
from tasks.preflight.rights import NEEDS, rights, statements

app = typer.Typer()


@app.command("grants")
def grants_command(
    role: Annotated[str, typer.Argument(help="The role, or user of Redis, that runs the command.")],
    commands: Annotated[
        list[str],
        typer.Option(
            "--for",
            metavar="COMMAND",
            show_default=False,
            help="May be repeated. One of: " + ", ".join(dict.fromkeys([*NEEDS, *COMMANDS])) + ". Without it: drain.",
        ),
    ] = ["drain"],  # noqa: B006
    table: Annotated[
        list[str] | None,
        typer.Option("--table", "-t", help="A table that rows go to; may be repeated. Without it: events."),
    ] = None,
    redis: Annotated[bool, typer.Option("--redis", help="Print the ACL of a user of Redis instead.")] = False,
    stream: Annotated[
        list[str] | None,
        typer.Option(
            "--stream",
            "-s",
            help="With --redis: a stream or pattern; may be repeated. Without it: SPILLWAY_SCHEDULED_STREAMS.",
        ),
    ] = None,
    cluster: Annotated[bool, typer.Option("--cluster", help="With --redis: the server is a Redis Cluster.")] = False,
) -> None:
    """Print what gives a role the rights to run a command, and no others. Connects to no server.

    For example: spillway grants etl | psql -d analytics
    """
    if not redis and (stream or cluster):
        raise WrongUse("grants: --stream and --cluster need --redis; nothing was printed; add --redis")
    if redis and table:
        raise WrongUse("grants: --table is about the database; nothing was printed; leave out --redis or --table")
    known = COMMANDS if redis else NEEDS
    for command in commands:
        if command not in known:
            place = " with --redis" if redis else ""
            raise Terminal(f"grants: --for {command!r}: expected{place} one of: {', '.join(known)}")
    if redis:
        config = settings()
        patterns = stream or list(config.scheduled_streams)
        print(acl_command(role, redis_rights(commands, patterns, config, cluster)))
        return
    for line in _sql(commands, role, table):
        print(line)


def _sql(commands: Sequence[str], role: str, tables: Sequence[str] | None) -> Iterable[str]:
    parts: dict[str, Any] = conninfo_to_dict(settings().database)
    database = parts.get("dbname") or parts.get("user") or DATABASE
    for command in commands:
        if NEEDS[command].owner:
            yield f"-- {command} must also be run by the owner of the table, or by a member of that role"
    wanted = dict.fromkeys(right for command in commands for right in rights(command, tables) if right.kind != "OWNER")
    for statement in statements(wanted, role, database):
        yield f"{statement};"
