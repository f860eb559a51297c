"""`spillway reconcile`: run the flow `reconcile` in this process. The exit code reports findings and losses."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.cli.options import Json, Streams
from flows.cli.run import run_flow
from infra.display import count_of, display_name
from infra.output import print_json, print_table, result

app = typer.Typer()

_TOTALS = ("ranges", "read", "inserted", "duplicates", "quarantined", "waiting", "lost", "accepted")
_FINDING = ("stream", "what", "count", "ids", "detail", "repair")


@app.command("reconcile")
def reconcile_command(
    stream: Streams,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also compare every drained entry that still exists with the table.")
    ] = False,
    since: Annotated[str | None, typer.Option(help="With --deep: start at this entry id or ISO 8601 time.")] = None,
    until: Annotated[str | None, typer.Option(help="With --deep: stop after this entry id or ISO 8601 time.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="With --deep: put back the rows that are missing.")] = False,
    files: Annotated[bool, typer.Option(help="Whether patterns match files too.")] = True,
    retired: Annotated[
        bool, typer.Option("--retired", help="Patterns match former streams and repeated loads too (@until-, @again-).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check that the totals of each stream balance.

    Exit code 0 only if all do; 3 if entries were lost and the loss was not accepted.
    """
    report, error = run_flow(
        "reconcile", stream=stream, deep=deep, since=since, until=until, repair=repair, files=files, retired=retired
    )
    if as_json:
        print_json(report)
    else:
        _print(report, deep)
    if error is not None:
        raise error


def _print(report: dict[str, Any], deep: bool) -> None:
    rows = [[display_name(totals["stream"]), *(totals[name] for name in _TOTALS)] for totals in report["streams"]]
    print_table(["stream", *_TOTALS], rows, drop=("ranges", "accepted", "waiting", "duplicates"))
    if deep:
        compared = count_of(report["compared"], "entry", "entries")
        result(f"{compared} compared with the table, {report['repaired']:,} put back")
        if report["dropped"]:
            result(f"{report['dropped']:,} of them are no longer in the table: retention dropped their chunks")
        for note in report["notes"]:
            result(f"note: {note}")
    for line in (*report["accepted"], *report["redriven"]):
        result(line)
    if report["findings"]:
        found = [[str(finding[name]) for name in _FINDING] for finding in report["findings"]]
        print_table(_FINDING, found, right=("count",), whole=("ids",))
    elif not report["losses"]:
        result("everything balances" if report["streams"] else "no stream matches: nothing to reconcile")
