"""What a phase of the latency benchmark has seen: how long others waited, and how long Redis worked on each page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.probe import EVERY_SECONDS


@dataclass(frozen=True)
class Phase:
    """All in seconds. `pages`: Redis's own time for each XRANGE, by what was asked: passes ask the same again."""

    round_trips: NDArray[np.float64]
    pages: Mapping[bytes, Sequence[float]]
    mean_page: float  # by INFO commandstats

    def summary(self, limit: float) -> dict[str, float | int]:
        """Milliseconds, and how many pages took longer than `limit`. No pages, no figures of pages.

        `page_longest_ms` is that of the page that takes longest, each taken at the best of its passes: Redis's clock is
        the wall's, and where the machine's cores are taken it goes on while Redis itself does not run.
        """
        times = np.array([took for passes in self.pages.values() for took in passes])
        found: dict[str, float | int] = {"pings": len(self.round_trips), "pages": len(times)}
        waits = self._everybodys_waits()
        for name, share in (("median", 50), ("p99", 99), ("p99.9", 99.9), ("max", 100)):
            found[f"ping_{name}_ms"] = _milliseconds(float(np.percentile(waits, share)))
        if len(times):
            found["page_mean_ms"] = _milliseconds(self.mean_page)
            for name, share in (("p99", 99), ("max", 100)):
                found[f"page_{name}_ms"] = _milliseconds(float(np.percentile(times, share)))
            found["page_longest_ms"] = _milliseconds(max(min(passes) for passes in self.pages.values()))
            found["pages_over_limit"] = int((times > limit).sum())
        return found

    def _everybodys_waits(self) -> NDArray[np.float64]:
        """A probe that waits asks nothing meanwhile; whoever else would have asked then waited for the rest of it."""
        long = self.round_trips[self.round_trips > EVERY_SECONDS]
        rest = [np.arange(took - EVERY_SECONDS, 0, -EVERY_SECONDS) for took in long]
        return np.concatenate([self.round_trips, *rest])


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)
