"""The books of a drain, as numbers and as a table that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.events import emit_event
from prefect.exceptions import PrefectException

from infra.display import cell, markdown
from infra.errors import one_line
from tasks.reconcile import Finding, Ledger
from tasks.redrive import Redriven
from tasks.step import step

LOST_EVENT = "spillway.entries.lost"
_SUMMED = ("read", "inserted", "duplicates", "quarantined", "lost", "bytes", "lag")


@dataclass(frozen=True)
class Books:
    """What one drain did to one stream. `read` = `inserted` + `duplicates` + `quarantined`; `lost` was never read.

    `lost_ids`: among which ids. `bytes` of entry fields read; `lag`: entries left when it ended; `trimmed`: drained
    entries taken out of Redis; `error`: why it stopped early, if it did.
    """

    stream: str
    read: int = 0
    inserted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    lost: int = 0
    bytes: int = 0
    seconds: float = 0.0
    lag: int = 0
    trimmed: int = 0
    lost_ids: str | None = None
    error: str | None = None

    @property
    def events_per_second(self) -> int:
        return round(self.read / self.seconds) if self.seconds else 0

    @property
    def loss(self) -> str | None:
        """What was lost, for people; None where nothing was."""
        if not self.lost:
            return None
        return (
            f"{self.lost} entries of {self.stream} with ids in {self.lost_ids} were trimmed or deleted before they were"
            " drained; they are gone from Redis: drain more often, or trim less (see docs/operations.md)"
        )


def summary(books: Sequence[Books], seconds: float) -> dict[str, Any]:
    """The totals over all streams, with the keys that `spillway drain --json` prints, and the books of each."""
    totals: dict[str, Any] = {name: sum(getattr(b, name) for b in books) for name in _SUMMED}
    totals["seconds"] = round(seconds, 3)
    totals["events_per_second"] = round(totals["read"] / seconds) if seconds else 0
    totals["losses"] = [b.loss for b in books if b.loss]
    totals["streams"] = [asdict(b) | {"events_per_second": b.events_per_second} for b in books]
    return totals


def table(books: Sequence[Books]) -> list[dict[str, Any]]:
    """One row a stream, for people. Without pandas, whose import would be most of what an idle run does."""
    rows = []
    for b in books:
        row = {"stream": b.stream} | {name: getattr(b, name) for name in _SUMMED if name != "lag"}
        row |= {"seconds": round(b.seconds, 2), "events/s": b.events_per_second, "lag": b.lag}
        rows.append(row | ({"error": b.error or ""} if any(other.error for other in books) else {}))
    return rows


@step("report")
def report(books: list[Books], warnings: list[str]) -> None:
    """Publish the books as the Prefect table artifact `drain`, and every loss as an event."""
    notes = [f"- warning: {markdown(warning)}" for warning in warnings]
    notes += [f"- **error: {markdown(b.loss)}**" for b in books if b.loss]
    notes += [f"- **{markdown(b.error)}**" for b in books if b.error]
    description = "read = inserted + duplicates + quarantined\n\n" + "\n".join(notes)
    publish("drain", table(books), description)
    for b in books:
        if b.lost:
            emit_event(
                event=LOST_EVENT,
                resource={"prefect.resource.id": f"spillway.stream.{b.stream}", "prefect.resource.name": b.stream},
                payload={"entries": b.lost, "ids": b.lost_ids},
            )


def publish(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """Publish a table artifact. Where that cannot be, the run has still done what it did: a warning."""
    try:
        shown = [{name: cell(value) for name, value in row.items()} for row in rows]
        create_table_artifact(key=key, table=shown, description=description)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("the artifact %r is not published: %s", key, one_line(error))


@step("report")
def report_redrive(done: list[Redriven]) -> None:
    """Publish what a redrive did as the Prefect table artifact `redrive`, one row a stream."""
    names = ("tried", "inserted", "duplicates", "still_bad")
    streams = dict.fromkeys(part.stream for part in done)
    rows = [
        {"stream": stream} | {name: sum(getattr(p, name) for p in done if p.stream == stream) for name in names}
        for stream in streams
    ]
    publish("redrive", rows, "tried = inserted + duplicates + still_bad")


@step("report")
def report_reconciliation(
    books: list[Ledger], findings: list[Finding], compared: int, repaired: int, dropped: int
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
