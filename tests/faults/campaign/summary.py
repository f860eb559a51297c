"""The results of a campaign, by kind of fault."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tests.faults.campaign.run_fault import Result

_COLUMNS = ("faults", "lost", "doubled", "different", "unbalanced", "hung", "texts", "else", "s")


def summary(title: str, results: Sequence[Result]) -> Table:
    """A table with a row for each kind, and the totals. All columns but `faults` and `s` must be 0."""
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column("kind", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for kind in sorted({result.kind for result in results}):
        _add(table, kind, [result for result in results if result.kind == kind])
    table.add_section()
    _add(table, "all", results)
    return table


def _add(table: Table, name: str, results: Sequence[Result]) -> None:
    counts = (
        len(results),
        sum(result.verdict.lost for result in results),
        sum(result.verdict.doubled for result in results),
        sum(result.verdict.different for result in results),
        sum(len(result.verdict.unbalanced) for result in results),
        sum(result.hung for result in results),
        sum(len(result.texts) for result in results),
        sum(len(result.complaints) for result in results),
    )
    bad = "" if all(result.good for result in results) else "[red]"
    seconds = sum(result.seconds for result in results)
    table.add_row(f"{bad}{name}", *(f"{bad}{count}" for count in counts), f"{bad}{seconds:.0f}")
