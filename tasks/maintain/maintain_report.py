"""The report of a maintain run about all tables: as JSON, as text, and as a Prefect artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.display import markdown
from tasks.base.artifacts import emit_event, publish
from tasks.base.step import step
from tasks.maintain.table_report import TableReport, chunk_row, table_result, table_row

VIOLATION_EVENT = "spillway.maintain.violation"
_MOST_ROWS = 100  # of the table of chunks: the oldest and the newest, half each


@dataclass(frozen=True)
class MaintainReport:
    """What a run did and found. `failed`, `deferred`: errors and warnings that are not about one of `tables`."""

    dry_run: bool
    tables: tuple[TableReport, ...]
    failed: tuple[str, ...] = ()
    deferred: tuple[str, ...] = ()

    @property
    def violations(self) -> list[str]:
        """The errors and violations that make the run fail."""
        return list(dict.fromkeys([*self.failed, *(text for one in self.tables for text in one.violations)]))

    @property
    def warnings(self) -> list[str]:
        """What does not make the run fail."""
        return list(dict.fromkeys([*self.deferred, *(text for one in self.tables for text in one.warnings)]))

    @property
    def summary(self) -> list[str]:
        """The summaries of all tables, one item a line, with the name of the table unless it is `events`."""
        return [f"{one.table.prefix}{line}" for one in self.tables for line in one.summary]


def result(report: MaintainReport) -> dict[str, Any]:
    """The report as the flow returns it and `--json` prints it.

    `tables` has each table, `events` first. The keys of the first one are also those of the whole report, as before
    there were several; `changes`, `summary`, `warnings` and `violations` are about all tables.
    """
    tables = [table_result(one) for one in report.tables]
    first = tables[0] if tables else {}
    editions = [one.found.edition for one in report.tables if one.found is not None]
    return {
        "ok": not report.violations,
        "dry_run": report.dry_run,
        "edition": next(iter(editions), None),
        **{key: value for key, value in first.items() if key not in ("table", "kind")},
        "changes": [f"{one.table.prefix}{change}" for one in report.tables for change in one.done.changes],
        "summary": report.summary,
        "warnings": report.warnings,
        "violations": report.violations,
        "tables": tables,
    }


@step("report")
def report_maintenance(report: MaintainReport) -> None:
    """Publish the table artifact `maintain`, and every violation as a Prefect event."""
    problems, warnings = report.violations, report.warnings
    lines = [f"- **error: {markdown(text)}**" for text in problems]
    lines += [f"- warning: {markdown(text)}" for text in warnings]
    lines += [f"- {markdown(line)}" for line in report.summary]
    tables = result(report)["tables"]
    rows = artifact_rows(tables)
    if len(rows) > _MOST_ROWS:
        lines.append(f"- of {len(rows)} chunks the oldest and the newest {_MOST_ROWS // 2} are shown")
        rows = [*rows[: _MOST_ROWS // 2], *rows[-_MOST_ROWS // 2 :]]
    verdict = f"**errors: {len(problems)}**, warnings: {len(warnings)}" if problems or warnings else "all is well"
    heading = f"a dry run, nothing was changed; {verdict}" if report.dry_run else verdict
    publish("maintain", rows, f"{heading}\n\n" + "\n".join(lines))
    for one in report.tables:
        _emit("events" if one.table.is_events else one.table.table.display_name, one.violations)
    _emit("events", report.failed)


def artifact_rows(tables: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """The chunks if there is one table; otherwise the tables."""
    if len(tables) == 1:
        return [chunk_row(chunk) for chunk in tables[0].get("chunks", [])]
    return [table_row(table) for table in tables]


def _emit(table: str, problems: Sequence[str]) -> None:
    for problem in problems:
        emit_event(VIOLATION_EVENT, "table", table, {"violation": problem})
