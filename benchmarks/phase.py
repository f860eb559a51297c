"""The results of a phase of the latency benchmark: the waiting time of others, and Redis's time for each page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.probe import EVERY_SECONDS


@dataclass(frozen=True)
class Phase:
    """All in seconds. `pages`: Redis's time for each XRANGE, by its arguments, which each pass repeats."""

    round_trips: NDArray[np.float64]
    pages: Mapping[bytes, Sequence[float]]
    mean_page: float  # by INFO commandstats

    def summary(self, limit: float) -> dict[str, float | int]:
        """Milliseconds, and the number of pages above `limit`. Without pages, the figures of pages are missing.

        `page_longest_ms` is the time of the slowest page; the best of its passes counts for each page. Redis measures
        wall time, which passes even if Redis does not get a core.
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
        """Adds the waits of requests that the probe would have sent while it waited: each waits for the rest of the
        block."""
        long = self.round_trips[self.round_trips > EVERY_SECONDS]
        rest = [np.arange(took - EVERY_SECONDS, 0, -EVERY_SECONDS) for took in long]
        return np.concatenate([self.round_trips, *rest])


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)
