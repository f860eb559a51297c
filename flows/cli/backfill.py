"""`spillway backfill`: the flow of that name, here and now."""

from __future__ import annotations

from contextlib import nullcontext
from enum import StrEnum
from typing import Annotated, Any

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.environment import set_prefect_defaults
from infra.display import printable, printable_json
from infra.errors.exit_codes import ExitCode

app = typer.Typer()


class Expired(StrEnum):
    """What to do with rows past the retention horizon."""

    fail = "fail"
    skip = "skip"
    load = "load"


@app.command("backfill")
def backfill_command(
    source: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, globs or URLs.", show_default=False)
    ] = None,
    stream: Annotated[str | None, typer.Option("--stream", "-s", help="A stream, instead of files.")] = None,
    archive: Annotated[bool, typer.Option("--archive", help="What maintain has archived, instead of files.")] = False,
    start: Annotated[str | None, typer.Option("--from", help="From this entry id or ISO 8601 time on.")] = None,
    stop: Annotated[str | None, typer.Option("--to", help="Up to this entry id or ISO 8601 time.")] = None,
    mapping: Annotated[str | None, typer.Option(help="The table of spillway.toml that the files go by.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Load what the ledger has, too.")] = False,
    expired: Annotated[Expired, typer.Option(help="Rows past the retention horizon.")] = Expired.fail,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask about many new chunks.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, load nothing.")] = False,
    rate: Annotated[float | None, typer.Option(help="Events/s, at most.")] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="Loads at the same time.")] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="An archived column to leave out.", show_default=False)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object on the last line.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log.")] = False,
) -> None:
    """Load history, exactly once: files, the archive, or a past range of a stream.

    NDJSON, CSV and Parquet, also compressed (.gz, .zst). What was loaded before is left out; stopped or killed,
    the same command goes on where it was.
    """
    set_prefect_defaults(quiet=not verbose)
    from flows.backfill import backfill
    from flows.cli.drain import Bars
    from flows.cli.prefect_api import demand_prefect, translate_prefect_errors
    from tasks.base.progress import answer_with, subscribe

    console = Console(stderr=True)
    bars = Bars(console)

    def confirm(question: str) -> bool:
        if not console.is_terminal:
            return False
        bars.progress.stop()
        answer = typer.confirm(question, err=True)
        bars.progress.start()
        return answer

    demand_prefect(needs_redis=stream is not None)
    shown = bars.progress if console.is_terminal else nullcontext()
    try:
        with translate_prefect_errors(), answer_with(confirm), subscribe(bars), shown:
            result = backfill(
                source,
                stream,
                archive,
                start,
                stop,
                mapping,
                again,
                expired.value,
                yes,
                dry_run,
                rate,
                parallel,
                without,
            )
    except KeyboardInterrupt:
        console.print("stopped: what was loaded is committed, and the same command goes on from there")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    for warning in result["warnings"]:
        console.print(f"[yellow]warning:[/yellow] {escape(printable(warning))}", highlight=False, soft_wrap=True)
    if as_json:
        print(printable_json(orjson.dumps(result).decode()))
    else:
        _print(result)


_NUMBERS = ("rows", "remaining", "read", "inserted", "duplicates", "quarantined")


def _print(result: dict[str, Any]) -> None:
    from tasks.backfill.backfill_report import summary_lines

    console = Console(highlight=False)
    table = Table(box=SIMPLE_HEAD)
    table.add_column("source", overflow="fold")
    table.add_column("state")
    for name in _NUMBERS:
        table.add_column(name, justify="right", no_wrap=True)
    for source in result["sources"]:
        table.add_row(Text(printable(source["source"])), source["state"], *(f"{source[name]:,}" for name in _NUMBERS))
    if len(result["sources"]) > 1:
        table.add_section()
        table.add_row("all", "", *(f"{result[name]:,}" for name in _NUMBERS))
    (console if console.is_terminal else Console(width=240, highlight=False)).print(table)
    for line in summary_lines(result):
        print(printable(line))
    if result["read"]:
        print(f"{result['seconds']:,.1f} s, {result['events_per_second']:,} events/s from start to end")
