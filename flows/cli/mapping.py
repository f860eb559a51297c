"""`spillway mapping`: check how entries become rows, and propose it. Nothing is written."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Json
from infra.connections.clients import Clients
from infra.display import count_of
from infra.errors.exceptions import Unsuccessful
from infra.output import print_json, print_table, progress, result, warn
from infra.settings import settings

if TYPE_CHECKING:
    from tasks.mapping.check_mapping import MappingCheck

app = typer.Typer(no_args_is_help=True, help="Check a mapping against a sample, or propose one. Writes nothing.")

_LONGEST_VALUE = 40  # characters
_Source = Annotated[str, typer.Option("--stream", "-s", metavar="STREAM|FILE", help="A stream, or a file or URL.")]


@app.command("suggest")
def suggest_command(
    source: _Source,
    table: Annotated[
        str | None, typer.Option("--table", "-t", help="A table that exists. Default: a new one is proposed too.")
    ] = None,
    only_sql: Annotated[bool, typer.Option("--sql", help="Print only the SQL that creates the table.")] = False,
) -> None:
    """Propose a mapping for a stream or a file, and a table for it, from up to 20,000 entries or rows.

    For example: spillway mapping suggest -s orders --sql | spillway psql,
    then: spillway mapping suggest -s orders >> spillway.toml
    """
    from tasks.mapping.suggest_mapping import document_lines, suggest_mapping

    with Clients(settings(), "mapping suggest") as clients:
        found = suggest_mapping(clients, source, table)
    progress(f"{source}: proposed from {count_of(found.sampled, 'entry', 'entries')}")
    if not only_sql:
        for line in document_lines(found):
            result(line)
    elif found.sql is not None:
        for line in found.sql.split("\n"):
            result(line)
    else:
        progress(f"the table {found.table} exists already: there is nothing to create")


@app.command("check")
def check_command(
    source: _Source,
    table: Annotated[
        str | None, typer.Option("--table", "-t", help="Check against this table instead of that of the mapping.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what becomes of a sample of 1,000 entries or rows: values of each column, and rows that would be rejected.

    They are inserted in a transaction that is rolled back. Exit code 1 if the mapping does not fit the table, or if a
    row would be rejected.
    """
    from infra.mapping.toml import configured_mappings
    from tasks.mapping.check_mapping import check_source

    with Clients(settings(), "mapping check") as clients:
        found = check_source(clients, configured_mappings(clients.settings), source, table)
    if as_json:
        print_json(asdict(found))
    else:
        _print(found)
    if not found.fits:
        reasons = [f"{found.rejected:,} of {found.rows:,} rows would be rejected"] if found.rejected else []
        reasons += found.problems
        raise Unsuccessful(
            f"mapping check: {source}: {'; '.join(reasons)}; nothing was written; correct the mapping or the table", {}
        )


def _print(found: MappingCheck) -> None:
    print_table(
        ["column", "type", "from", "values", "null"],
        [[c.name, c.type, c.source, " · ".join(map(_short, c.values)), c.nulls] for c in found.columns],
        whole=["column"],
        drop=("type",),
    )
    if found.rejections:
        print_table(
            ["rows", "column", "reason to reject them", "such as"],
            [[one.count, one.column, one.reason, one.example] for one in found.rejections],
            drop=("such as",),
        )
    if found.unmapped:
        keys = ", ".join(f"{key} (in {count:,})" for key, count in found.unmapped.items())
        result(f"keys that no column reads: {keys}")
    for hint in found.hints:
        warn(hint)
    outcome = f"new {found.inserted:,}, duplicates {found.duplicates:,}, rejected {found.rejected:,}"
    entries = count_of(found.entries, "entry gives", "entries give")
    result(f"{entries} {count_of(found.rows, 'row')} of {found.table}: {outcome}")


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else value[: _LONGEST_VALUE - 1] + "…"
