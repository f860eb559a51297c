"""The result of a drain: as totals, as a table for people, and as a Prefect artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.display import count_of, markdown
from tasks.base.artifacts import emit_event, publish
from tasks.base.step import step

LOST_EVENT = "spillway.entries.lost"
_SUMMED = ("read", "inserted", "duplicates", "quarantined", "lost", "bytes", "lag")


@dataclass(frozen=True)
class DrainResult:
    """What one drain did with one stream. rows = inserted + duplicates + quarantined; `lost` entries were never read.

    `table`: that the rows went to. `rows`: those that the entries read became; differs only with `each`. `compressed`:
    inserted rows that the server compressed while they were copied.

    `lost_ids`: the range in which these were. `bytes`: of the fields read. `lag`: entries not drained when it ended.
    `trimmed`: drained entries removed from Redis. `error`: why it stopped early, None if it did not.
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
    table: str = ""
    rows: int | None = None
    compressed: int = 0

    @property
    def events_per_second(self) -> int:
        return round(self.read / self.seconds) if self.seconds else 0

    @property
    def loss(self) -> str | None:
        """A message about the loss, None if nothing was lost."""
        if not self.lost:
            return None
        entries = count_of(self.lost, f"entry of {self.stream}", f"entries of {self.stream}")
        were, they = ("was", "it was") if self.lost == 1 else ("were", "they were")
        return (
            f"{entries} with ids in {self.lost_ids} {were} trimmed or deleted in Redis before {they} drained; all other"
            " entries are drained; drain more often, or trim less (see «lost is not 0» in docs/operations.md)"
        )


def summary(results: Sequence[DrainResult], seconds: float) -> dict[str, Any]:
    """The totals of all streams, and the result of each, with the keys that `spillway drain --json` prints."""
    totals: dict[str, Any] = {name: sum(getattr(one, name) for one in results) for name in _SUMMED}
    totals["seconds"] = round(seconds, 3)
    totals["events_per_second"] = round(totals["read"] / seconds) if seconds else 0
    totals["losses"] = [one.loss for one in results if one.loss]
    totals["streams"] = [vars(one) | {"events_per_second": one.events_per_second} for one in results]
    return totals


def table(results: Sequence[DrainResult]) -> list[dict[str, Any]]:
    """One row per stream, for people. Without pandas: importing it would take longer than an idle run."""
    rows = []
    for one in results:
        row = {"stream": one.stream} | {name: getattr(one, name) for name in _SUMMED if name != "lag"}
        row |= {"seconds": round(one.seconds, 2), "events/s": one.events_per_second, "lag": one.lag}
        if any(other.compressed for other in results):
            row |= {"compressed": one.compressed}
        rows.append(row | ({"error": one.error or ""} if any(other.error for other in results) else {}))
    return rows


@step("report")
def report(results: list[DrainResult], warnings: list[str]) -> None:
    """Publish the results as the Prefect table artifact `drain`, and each loss as a Prefect event."""
    notes = [f"- warning: {markdown(warning)}" for warning in warnings]
    notes += [
        f"- {one.compressed} rows of {markdown(one.stream)} were compressed while they were copied (direct compression)"
        for one in results
        if one.compressed
    ]
    notes += [f"- **error: {markdown(one.loss)}**" for one in results if one.loss]
    notes += [f"- **{markdown(one.error)}**" for one in results if one.error]
    description = "read = inserted + duplicates + quarantined\n\n" + "\n".join(notes)
    publish("drain", table(results), description)
    for one in results:
        if one.lost:
            emit_event(LOST_EVENT, "stream", one.stream, {"entries": one.lost, "ids": one.lost_ids})
