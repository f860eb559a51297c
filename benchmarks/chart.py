"""A chart of the rates of all contenders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

from benchmarks.measure import Spread
from benchmarks.throughput import CLIENT, Runs

_COLORS = {"prepared": "#8a8f98", "Spillway": "#1f6feb"}
_OTHER = "#d29922"


def draw(found: Mapping[str, Runs], machine: str, path: Path) -> None:
    """One panel per workload, one bar per contender: the median, with minimum and maximum."""
    mpl.use("agg")
    import matplotlib.pyplot as plt

    shown = {kind: {name: r for name, r in runs.items() if name != CLIENT} for kind, runs in found.items()}
    heights = [len(runs) for runs in shown.values()]
    figure, axes = plt.subplots(
        len(shown), 1, figsize=(9, 1 + 0.3 * sum(heights)), height_ratios=heights, squeeze=False
    )
    for axis, (kind, runs) in zip(axes[:, 0], shown.items(), strict=True):
        spreads = [Spread.of([run.rate for run in r]) for r in runs.values()]
        medians = [spread.median for spread in spreads]
        reach = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
        colors = [_COLORS.get(name.replace(",", " ").split()[0], _OTHER) for name in runs]
        bars = axis.barh(list(runs), medians, xerr=reach, color=colors, ecolor="#444", capsize=2)
        axis.bar_label(bars, [f" {median:,.0f}" for median in medians], fontsize=8, padding=3)
        axis.set_title(f"{kind}, from Redis to committed rows: events/s", fontsize=10, loc="left")
        axis.invert_yaxis()
        axis.margins(x=0.12)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.text(0.01, 0.005, machine, fontsize=7, color="#555")
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)
