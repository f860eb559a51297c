"""`spillway maintain`: the flow of that name, here and now, and its verdict as exit code."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.environment import set_prefect_defaults
from infra.display import printable, printable_json

app = typer.Typer()


@app.command("maintain")
def maintain_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, show what would be.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Compress, archive and drop as the settings say, and check that it works. Exit code 0: nothing is wrong."""
    set_prefect_defaults(quiet=True)
    from flows.cli.prefect_api import demand_prefect, run_flow
    from flows.maintain import maintain

    demand_prefect(needs_redis=False)
    result, error = run_flow(lambda: maintain(dry_run))
    if as_json:
        print(printable_json(orjson.dumps(result).decode()))
    else:
        _print(result)
    if error is not None:  # its words are among those printed
        raise typer.Exit(error.exit_code)


def _print(result: dict[str, Any]) -> None:
    from tasks.maintain.maintain_report import chunk_row

    console = Console(highlight=False)
    wide = console if console.is_terminal else Console(width=240, highlight=False)
    rows = [chunk_row(chunk) for chunk in result["chunks"]]
    if rows:
        table = Table(box=SIMPLE_HEAD)
        for name in rows[0]:
            table.add_column(
                name, justify="right" if name in ("age", "rows", "size") else "left", no_wrap=name != "next"
            )
        for row in rows:
            table.add_row(*(Text(printable(value)) for value in row.values()))
        wide.print(table)
    if result["dry_run"]:
        print("a dry run: nothing was changed")
    for line in result["summary"]:
        print(printable(line))
    for kind, color in (("warnings", "yellow"), ("violations", "red")):
        for problem in result[kind]:
            wide.print(Text.assemble((f"{kind[:-1]}: ", color), printable(problem)), soft_wrap=True)
