"""The books of a drain, as numbers and as a table that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prefect.artifacts import create_table_artifact

from tasks.step import step

_SUMMED = ("read", "inserted", "duplicates", "quarantined", "lost", "bytes", "lag")


@dataclass(frozen=True)
class Books:
    """What one drain did to one stream. `read` = `inserted` + `duplicates` + `quarantined`; `lost` was never read.

    `bytes` of entry fields read; `lag`: entries left when it ended; `error`: why it stopped early, if it did.
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
    error: str | None = None

    @property
    def events_per_second(self) -> int:
        return round(self.read / self.seconds) if self.seconds else 0


def summary(books: Sequence[Books], seconds: float) -> dict[str, Any]:
    """The totals over all streams, with the keys that `spillway drain --json` prints, and the books of each."""
    totals: dict[str, Any] = {name: sum(getattr(b, name) for b in books) for name in _SUMMED}
    totals["seconds"] = round(seconds, 3)
    totals["events_per_second"] = round(totals["read"] / seconds) if seconds else 0
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
    """Publish the books as the Prefect table artifact `drain`."""
    notes = [f"- warning: {warning}" for warning in warnings]
    notes += [
        f"- **{b.lost} entries of {b.stream} were trimmed or deleted before they were drained**"
        for b in books
        if b.lost
    ]
    notes += [f"- **{b.error}**" for b in books if b.error]
    description = "read = inserted + duplicates + quarantined\n\n" + "\n".join(notes)
    create_table_artifact(key="drain", table=table(books), description=description)
