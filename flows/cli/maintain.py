"""`spillway maintain`: run the flow `maintain` in this process. The exit code reports violations."""

from __future__ import annotations

from typing import Any

import typer

from flows.cli.options import DryRun, Json
from flows.cli.run import run_flow
from infra.output import RESULTS, labelled, print_json, print_table, result

app = typer.Typer()


@app.command("maintain")
def maintain_command(dry_run: DryRun = False, as_json: Json = False) -> None:
    """Compress, archive and drop chunks as the settings say, and check the result. Exit code 0: nothing is wrong."""
    report, error = run_flow("maintain", needs_redis=False, dry_run=dry_run)
    if as_json:
        print_json(report)
    else:
        _print(report)
    if error is not None:  # its message repeats the violations printed above
        raise typer.Exit(error.exit_code)


def _print(report: dict[str, Any]) -> None:
    from tasks.maintain.table_report import table_row

    several = len(report["tables"]) > 1
    if several:
        rows = [table_row(table) for table in report["tables"]]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[row.get(name, "") for name in columns] for row in rows]
        print_table(
            columns,
            cells,
            right=["rows", "size", "chunks", "compressed", "missing"],
            whole=["oldest"],
            drop=("kind", "compressed", "oldest", "size"),
        )
    for table in report["tables"]:
        if several:
            result("")
            result(table["table"])
        _print_chunks(table)
        if report["dry_run"] and not several:
            result("a dry run: nothing was changed")
        for line in table["summary"]:
            result(line)
    if report["dry_run"] and several:
        result("a dry run: nothing was changed")
    for warning in report["warnings"]:
        labelled("warning", warning, "yellow", RESULTS)
    for violation in report["violations"]:
        labelled("violation", violation, "red", RESULTS)


def _print_chunks(table: dict[str, Any]) -> None:
    from tasks.maintain.table_report import chunk_row

    if rows := [chunk_row(chunk) for chunk in table.get("chunks", [])]:
        columns = list(rows[0])
        print_table(
            columns,
            [list(row.values()) for row in rows],
            right=["age", "rows", "size"],
            whole=[name for name in columns if name not in ("state", "next")],
            drop=("age", "to", "size", "from"),
        )
