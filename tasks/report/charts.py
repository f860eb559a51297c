"""The charts of a report: frames drawn as SVG, in the colours of the page around them, light or dark."""

from __future__ import annotations

import io
import re
import warnings
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = (4.5, 2.5)  # inches: its text is still readable on a phone, and two fit next to each other on a desktop
_MOST_SERIES = 8  # the others are summed
MOST_CHUNKS = 60  # of a table: the latest
_OTHERS = "others"
# Distinguishable for everybody, and visible on white and on black (Okabe and Ito).
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442", "#7F7F7F")
_INK = "#123456"  # stands for the colour of the page's text; no series has it
_STYLE = {
    "svg.fonttype": "none", "text.parse_math": False, "font.size": 9, "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "sans-serif"], "text.color": _INK, "axes.labelcolor": _INK,
    "axes.edgecolor": _INK, "xtick.color": _INK, "ytick.color": _INK, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.15, "grid.color": _INK,
}  # fmt: skip
_OUTCOMES = {
    "inserted": "#009E73", "duplicates": "#56B4E9", "conflicts": "#E69F00", "refused": "#D55E00", "lost": "#CC0000",
}  # fmt: skip
_STATES = {"rows": "#0072B2", "compressed": "#009E73", "partial": "#E69F00", "frozen": "#999999"}


def rate_chart(loads: pd.DataFrame, start: datetime, end: datetime, step: timedelta) -> str:
    """Events per second over time, by stream. `step`: the width of a bucket, of which one begins at `start`."""
    table = _by_stream(loads, "read", "sum") / step.total_seconds()
    table = table.reindex(pd.date_range(start, end, freq=step), fill_value=0)  # nothing was loaded

    def draw(axes: Axes) -> None:
        names, colours = [str(name) for name in table], _COLOURS
        axes.stackplot(list(table.index), *(table[n] for n in table), labels=names, colors=colours, step="post")
        axes.set_ylabel("events/s")

    return _svg("rate", draw, of_times=True)


def lag_chart(loads: pd.DataFrame) -> str:
    """How old the newest entry of a range was when it was loaded, the most in each bucket, by stream."""
    table = _by_stream(loads.dropna(subset=["oldest_seconds"]), "oldest_seconds", "max", filled=False)

    def draw(axes: Axes) -> None:
        for name, colour in zip(table, _COLOURS, strict=False):
            axes.plot(table.index, table[name].clip(lower=0), label=str(name), color=colour, marker=".", markersize=3)
        axes.set_ylabel("seconds")
        axes.set_ylim(bottom=0)

    return _svg("lag", draw, of_times=True)


def outcome_chart(outcomes: pd.DataFrame) -> str:
    """What became of the entries of each stream, as shares."""
    top = outcomes.head(_MOST_SERIES).iloc[::-1]
    kinds = list(_OUTCOMES)
    total = top[kinds].sum(axis=1).clip(lower=1)

    def draw(axes: Axes) -> None:
        left = pd.Series(0.0, index=top.index)
        for kind in kinds:
            share = top[kind] / total * 100
            axes.barh([_short(name) for name in top["stream"]], share, left=left, label=kind, color=_OUTCOMES[kind])
            left += share
        axes.set_xlabel("% of the entries")
        axes.set_xlim(0, 100)

    return _svg("outcomes", draw)


def load_chart(loads: pd.DataFrame, compressions: pd.DataFrame) -> str:
    """The longest load in each bucket, next to the last run of each compression policy."""
    longest = loads.groupby("at")["longest_seconds"].max()

    def draw(axes: Axes) -> None:
        axes.plot(longest.index, longest, color=_COLOURS[0], marker=".", markersize=3, label="longest load")
        first = longest.index.min()
        for start, seconds in zip(compressions["start"], compressions["seconds"], strict=True):
            begin: Any = pd.Timestamp(start)
            if begin >= first:
                end = begin + pd.Timedelta(seconds=seconds or 0)
                axes.axvspan(begin, end, color=_COLOURS[1], alpha=0.5, label="compression", linewidth=2)
        axes.set_ylabel("seconds")
        axes.set_ylim(bottom=0)

    return _svg("loads", draw, of_times=True)


def chunk_chart(chunks: pd.DataFrame) -> str:
    """The size and the state of the latest chunks of a table, from the oldest to the newest."""
    latest = chunks.sort_values("start").tail(MOST_CHUNKS).reset_index(drop=True)
    unit, name = _unit(float(latest["bytes"].max()))

    def draw(axes: Axes) -> None:
        for state, colour in _STATES.items():
            some = latest[latest["state"] == state]
            if len(some):
                axes.bar(some.index, some["bytes"] / unit, width=0.9, label=state, color=colour)
        shown = sorted({0, len(latest) // 3, 2 * len(latest) // 3, len(latest) - 1})
        axes.set_xticks(shown, [f"{latest['start'][at]:%Y-%m-%d}" for at in shown])
        axes.set_ylabel(name)

    return _svg("chunks", draw)


def run_chart(runs: pd.DataFrame) -> str:
    """When each flow ran, and what became of the runs. A gap is a time without any."""
    names = sorted(runs["flow"].unique(), reverse=True)

    def draw(axes: Axes) -> None:
        for state, colour, marker in (("completed", "#009E73", "|"), ("other", "#CC0000", "x")):
            some = runs[(runs["state"] == "Completed") == (state == "completed")]
            if len(some):
                times = pd.to_datetime(some["started"].fillna(some["due"]), utc=True)
                rows = [names.index(flow) for flow in some["flow"]]
                axes.scatter(times, rows, color=colour, marker=marker, label=state, s=40)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(-0.6, len(names) - 0.4)

    return _svg("runs", draw, of_times=True)


def _by_stream(loads: pd.DataFrame, column: str, how: Literal["sum", "max"], filled: bool = True) -> pd.DataFrame:
    """A column for each stream; those beyond the eighth together as `others`."""
    weights = loads.groupby("stream")[column].sum().sort_values(ascending=False)
    kept = set(weights.index[:_MOST_SERIES])
    names = [_short(name) if name in kept else _OTHERS for name in loads["stream"]]
    table = loads.assign(series=names).pivot_table(index="at", columns="series", values=column, aggfunc=how)
    return table.fillna(0) if filled else table


def _short(name: object) -> str:
    text = str(name)
    return text if len(text) <= 24 else text[:23] + "…"


def _unit(most: float) -> tuple[float, str]:
    return next(((size, name) for size, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")) if most >= size), (1e3, "kB"))


def _svg(name: str, draw: Callable[[Axes], None], of_times: bool = False) -> str:
    """An SVG element. Its ids depend on `name`, since all charts are on one page. `of_times`: on the x axis."""
    from matplotlib import rc_context
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    style: dict[Any, Any] = _STYLE | {"svg.hashsalt": name, "svg.id": name}
    with rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may have characters that no font of this machine has
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        if of_times:
            locator = AutoDateLocator(maxticks=6)  # type: ignore[no-untyped-call]
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _compact(buffer.getvalue())


def _compact(svg: str) -> str:
    """The element alone, in the colour of its page, without what no reader of the picture can see."""
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    # Tenths of a point, in paths only: a label may be a number too.
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]).replace("\n", ""), svg)
    return re.sub(r">\s+<", "><", svg)


def as_data_url(svg: str) -> str:
    """A chart as the URL of a picture, in a grey that is visible on light and dark pages."""
    grey = svg.replace("currentColor", "#808080").encode()
    return f"data:image/svg+xml;base64,{b64encode(grey).decode()}"
