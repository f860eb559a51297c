"""What a reconciliation found, as a Prefect artifact."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from infra.display import markdown
from tasks.base.artifacts import publish
from tasks.base.step import step
from tasks.reconcile.balance import Finding, LedgerTotals


@step("report")
def report_reconciliation(
    books: list[LedgerTotals], findings: list[Finding], compared: int, repaired: int, dropped: int
) -> None:
    """Publish a reconciliation as the Prefect table artifact `reconcile`: the sums, and what does not balance."""
    rows: list[dict[str, Any]] = [asdict(finding) for finding in findings] or [asdict(ledger) for ledger in books]
    losses = [f"**{markdown(ledger.loss)}**" for ledger in books if ledger.loss]
    losses += [markdown(ledger.acceptance) for ledger in books if ledger.acceptance]
    verdict = f"**{len(findings)} findings**" if findings else "all balances"
    description = (
        f"{len(books)} streams: {verdict}; {compared} entries compared with the table, {repaired} put back, {dropped}"
        " dropped by retention since they were drained" + "".join(f"\n- {loss}" for loss in losses)
    )
    publish("reconcile", rows, description)
