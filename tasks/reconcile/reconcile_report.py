"""The outcome of a reconciliation as a Prefect artifact."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from infra.display import count_of, markdown
from tasks.base.artifacts import publish
from tasks.base.step import step
from tasks.ledger.stream_balance import Finding
from tasks.reconcile.balance import LedgerTotals


@step("report")
def report_reconciliation(
    totals: list[LedgerTotals], findings: list[Finding], compared: int, repaired: int, dropped: int
) -> None:
    """Publish the table artifact `reconcile`: the findings, or the totals if there are none."""
    rows: list[dict[str, Any]] = [asdict(finding) for finding in findings] or [asdict(ledger) for ledger in totals]
    notes = [f"**{markdown(ledger.loss)}**" for ledger in totals if ledger.loss]
    notes += [markdown(ledger.acceptance) for ledger in totals if ledger.acceptance]
    notes += [markdown(ledger.addition) for ledger in totals if ledger.addition]
    verdict = f"**{count_of(len(findings), 'finding')}**" if findings else "everything balances"
    description = (
        f"{count_of(len(totals), 'stream')}: {verdict}; {count_of(compared, 'entry', 'entries')} compared with the"
        f" table, {repaired} put back, {dropped} dropped by retention since they were drained"
        + "".join(f"\n- {note}" for note in notes)
    )
    publish("reconcile", rows, description)
