"""`spillway reconcile`: the flow of that name, here and now, and its verdict as exit code."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.environment import set_prefect_defaults
from infra.display import display_name, printable, printable_json

app = typer.Typer()


@app.command("reconcile")
def reconcile_command(
    stream: Annotated[list[str], typer.Option("--stream", "-s", help="Name or pattern; may be repeated.")],
    deep: Annotated[
        bool, typer.Option("--deep", help="Compare every entry that is still there with the table.")
    ] = False,
    start: Annotated[str | None, typer.Option("--from", help="Deep from this entry id or ISO 8601 time on.")] = None,
    stop: Annotated[str | None, typer.Option("--to", help="Deep up to this entry id or ISO 8601 time.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="With --deep: put in the rows that are missing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Do the books balance? Exit code 0 only if all do, 3 if entries are lost and nobody has accepted that."""
    set_prefect_defaults(quiet=True)
    from flows.cli.prefect_api import demand_prefect, run_flow
    from flows.reconcile import reconcile

    demand_prefect()
    result, error = run_flow(lambda: reconcile(stream if len(stream) > 1 else stream[0], deep, start, stop, repair))
    if as_json:
        print(printable_json(orjson.dumps(result).decode()))
    else:
        _print(result, deep)
    if error is not None:
        raise error


_SUMS = ("ranges", "read", "inserted", "duplicates", "quarantined", "waiting", "lost", "accepted")


def _print(result: dict[str, Any], deep: bool) -> None:
    console = Console()
    wide = console if console.is_terminal else Console(width=240)
    sums = Table("stream", box=SIMPLE_HEAD)
    for name in _SUMS:
        sums.add_column(name, justify="right", no_wrap=True)
    for books in result["streams"]:
        sums.add_row(Text(display_name(books["stream"])), *(f"{books[name]:,}" for name in _SUMS))
    wide.print(sums)
    if deep:
        print(f"{result['compared']:,} entries compared with the table, {result['repaired']:,} put back")
        if result["dropped"]:
            print(f"{result['dropped']:,} of them are gone with chunks that retention dropped since")
        for note in result["notes"]:
            print(f"note: {printable(note)}")
    for accepted in result["accepted"]:
        print(printable(accepted))
    if result["balanced"]:
        if not result["losses"]:
            print("all balances" if result["streams"] else "no stream matches: nothing to reconcile")
        return
    found = Table("stream", "what", "count", "ids", "detail", "repair", box=SIMPLE_HEAD)
    for finding in result["findings"]:
        texts = (str(finding[name]) for name in ("stream", "what", "count", "ids", "detail", "repair"))
        found.add_row(*(Text(printable(text)) for text in texts))
    wide.print(found)
