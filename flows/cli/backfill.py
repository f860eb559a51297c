"""`spillway backfill`: run the flow `backfill` in this process."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from flows.cli.options import DryRun, Json, Verbose, Yes
from flows.cli.run import run_flow
from infra.errors.exit_codes import ExitCode
from infra.output import print_json, print_table, progress, result, warn

app = typer.Typer()

_NUMBERS = ("rows", "remaining", "read", "inserted", "duplicates", "quarantined")


@app.command("backfill")
def backfill_command(
    source: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, globs or URLs.", show_default=False)
    ] = None,
    stream: Annotated[str | None, typer.Option("--stream", "-s", help="A stream, instead of files.")] = None,
    archive: Annotated[
        bool, typer.Option("--archive", help="The chunks that maintain has archived, instead of files.")
    ] = False,
    since: Annotated[
        str | None, typer.Option(help="Start at this entry id or ISO 8601 time, of a stream or the archive.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Stop after this entry id or ISO 8601 time, of a stream or the archive.")
    ] = None,
    mapping: Annotated[str | None, typer.Option(help="The table of spillway.toml that maps the files.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also load rows that the ledger already covers.")] = False,
    expired: Annotated[
        Literal["fail", "skip", "load"], typer.Option(help="What to do with rows past the retention horizon.")
    ] = "fail",
    yes: Yes = False,
    dry_run: DryRun = False,
    rate: Annotated[float | None, typer.Option(help="Load at most this many events per second.")] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="How many loads run at the same time.")] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="A column of the archive to leave out; may be repeated.", show_default=False),
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", "-t", help="The table whose archive is loaded.", show_default="events")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Load history, exactly once: files, the archive, or a past range of a stream.

    Files are NDJSON, CSV or Parquet, also compressed (.gz, .zst). What was loaded before is left out. After an
    interruption, the same command continues from there.
    """
    try:
        totals, _ = run_flow(
            "backfill",
            needs_redis=stream is not None,
            verbose=verbose,
            source=source,
            stream=stream,
            archive=archive,
            since=since,
            until=until,
            mapping=mapping,
            again=again,
            expired=expired,
            yes=yes,
            dry_run=dry_run,
            rate=rate,
            parallel=parallel,
            without=without,
            table=table,
        )
    except KeyboardInterrupt:
        progress("stopped: what was loaded is committed, and the same command continues from there")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    for warning in totals["warnings"]:
        warn(warning)
    if as_json:
        print_json(totals)
    else:
        _print(totals)


def _print(totals: dict[str, Any]) -> None:
    from tasks.backfill.backfill_report import summary_lines

    sources = totals["sources"]
    print_table(
        ["source", "state", *_NUMBERS],
        [[one["source"], one["state"], *(one[name] for name in _NUMBERS)] for one in sources],
        total=["all", "", *(totals[name] for name in _NUMBERS)] if len(sources) > 1 else None,
        drop=("remaining", "rows", "state"),
    )
    for line in summary_lines(totals):
        result(line)
    if totals["read"]:
        result(f"{totals['seconds']:,.1f} s, {totals['events_per_second']:,} events/s from start to end")
