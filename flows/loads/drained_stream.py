"""One stream, or one part of it, as one run drains it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from tasks.columns.row_layout import RowLayout
from tasks.ledger.claims import Claim
from tasks.ledger.drain_report import DrainResult
from tasks.ledger.plan import DrainPlan
from tasks.ledger.settle import Settlement
from tasks.streams.reader import Reader
from tasks.table.insert import InsertRoute
from tasks.table.load import LoadResult


@dataclass
class DrainedPart:
    """A part of a stream that a run has claimed. `loading`: batches of it that are being loaded."""

    claim: Claim
    reader: Reader
    loading: int = 0


@dataclass
class DrainedStream:
    """The progress of one run through one stream.

    `parts`: what is planned and not begun, by this run. `part`: the one that it reads. `loading`: batches that are
    being loaded. `overtaken`: another run has drained what this one has read. `blocked`: other runs have claimed all
    that remained when it was planned.
    """

    name: str
    layout: RowLayout
    planned: DrainPlan | None = None
    parts: list[Claim] = field(default_factory=list)
    part: DrainedPart | None = None
    loaded: list[LoadResult] = field(default_factory=list)
    loading: int = 0
    route: InsertRoute = InsertRoute.STRAIGHT  # of the next batch
    all_read: bool = False
    overtaken: bool = False
    blocked: bool = False
    settled: Settlement | None = None
    error: str | None = None
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0

    @property
    def read(self) -> int:
        return sum(loaded.read for loaded in self.loaded)

    def result(self) -> DrainResult:
        """What this run has committed of the stream."""
        names = ("read", "inserted", "duplicates", "quarantined", "bytes")
        counts = {name: sum(getattr(loaded, name) for loaded in self.loaded) for name in names}
        rows = [loaded.rows for loaded in self.loaded if loaded.rows is not None]
        result = DrainResult(
            self.name,
            **counts,
            seconds=self.ended - self.began,
            error=self.error,
            table=self.layout.table.display_name,
            rows=sum(rows) if rows else None,
            compressed=sum(loaded.compressed for loaded in self.loaded),
        )
        if (settled := self.settled) is None:
            return result
        lost_ids = None if settled.lost_ids is None else str(settled.lost_ids)
        return replace(result, lost=settled.lost, lost_ids=lost_ids, lag=settled.lag, trimmed=settled.trimmed)
