"""The charts of a report: frames drawn as figures. All charts over time have the same axis."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from tasks.report.load_frames import Buckets
from tasks.report.svg import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (4.5, 2.5)  # inches: its text is still readable on a phone, and two fit next to each other on a desktop
_POINTS: dict[str, Any] = {"marker": ".", "markersize": 5, "clip_on": False}  # the newest one is at the edge
_MOST_BARS = 8
_LEAST_BARS = 6  # there is room for as many, so that a single one is a bar and not a wall
MOST_CHUNKS = 60  # of a table: the latest
_OTHERS = "others"
# Of Okabe and Ito, visible on white and on black: so without yellow. Neighbours differ for colour-blind readers too,
# which a test computes.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
GREY = "#6A6A6A"  # of what is summed or belongs elsewhere
OUTCOMES = {
    "inserted": "#009E73", "duplicates": "#56B4E9", "conflicts": "#E69F00", "refused": "#CC79A7", "lost": "#CC0000",
}  # fmt: skip
STATES = {"rows": "#0072B2", "compressed": "#009E73", "partial": "#E69F00", "frozen": "#CC79A7"}


def rate_chart(loads: pd.DataFrame, buckets: Buckets) -> Figure:
    """Events per second over time, by stream."""
    table = _by_stream(loads, "read", "sum") / buckets.step.total_seconds()
    table = table.reindex(pd.date_range(buckets.first, buckets.end, freq=buckets.step, inclusive="left"), fill_value=0)
    table.loc[pd.Timestamp(buckets.end)] = table.iloc[-1]  # a step ends where the next one begins: the newest has none

    def draw(axes: Axes) -> None:
        names, colours = [str(name) for name in table], [*_colours(table)]
        axes.stackplot(list(table.index), *(table[n] for n in table), labels=names, colors=colours, step="post")
        axes.set_ylabel("events/s")

    return _figure(draw, buckets)


def lag_chart(loads: pd.DataFrame, buckets: Buckets) -> Figure:
    """How old the newest entry of a range was when it was loaded, the most in each bucket, by stream."""
    table = _by_stream(loads.dropna(subset=["oldest_seconds"]), "oldest_seconds", "max", filled=False)

    def draw(axes: Axes) -> None:
        for name, colour in zip(table, _colours(table), strict=True):
            known = table[name].dropna().clip(lower=0)  # a gap is a time in which the stream was not loaded
            axes.plot(_middles(known, buckets), known, label=str(name), color=colour, **_POINTS)
        axes.set_ylabel("seconds")
        axes.set_ylim(bottom=0)

    return _figure(draw, buckets)


def outcome_chart(outcomes: pd.DataFrame) -> Figure:
    """What became of the entries of each stream, as shares."""
    top = outcomes.head(_MOST_BARS).iloc[::-1]
    colours = OUTCOMES | ({"other_tables": GREY} if top["other_tables"].any() else {})
    kinds = list(colours)
    total = top[kinds].sum(axis=1).clip(lower=1)

    def draw(axes: Axes) -> None:
        left = pd.Series(0.0, index=top.index)
        for kind in kinds:
            share = top[kind] / total * 100
            label = kind.replace("_", " ")
            axes.barh([_short(name) for name in top["stream"]], share, left=left, label=label, color=colours[kind])
            left += share
        axes.set_xlabel("% of the entries")
        axes.set_xlim(0, 100)

    return _figure(draw)


def load_chart(loads: pd.DataFrame, compressions: pd.DataFrame, buckets: Buckets) -> Figure:
    """The longest load in each bucket, next to the runs of compression policies."""
    longest = loads.groupby("at")["longest_seconds"].max()

    def draw(axes: Axes) -> None:
        axes.plot(_middles(longest, buckets), longest, color=COLOURS[0], label="longest load", **_POINTS)
        label = "compression"
        for start, seconds in zip(compressions["start"], compressions["seconds"], strict=True):
            begin: Any = pd.Timestamp(start)
            end: Any = begin + pd.Timedelta(seconds=0 if pd.isna(seconds) else seconds)
            if end >= buckets.first:
                axes.axvspan(begin, end, color=COLOURS[1], alpha=0.5, label=label, linewidth=2)
                label = ""  # one entry of the legend for all
        axes.set_ylabel("seconds")
        axes.set_ylim(bottom=0)

    return _figure(draw, buckets)


def chunk_chart(chunks: pd.DataFrame) -> Figure:
    """The size and the state of the latest chunks of a table, from the oldest to the newest."""
    latest = chunks.sort_values("start").tail(MOST_CHUNKS).reset_index(drop=True)
    unit, name = _unit(float(latest["bytes"].max()))

    def draw(axes: Axes) -> None:
        for state, colour in STATES.items():
            some = latest[latest["state"] == state]
            if len(some):
                axes.bar(some.index, some["bytes"] / unit, width=0.9, label=state, color=colour)
        shown = sorted({0, len(latest) // 3, 2 * len(latest) // 3, len(latest) - 1})
        axes.set_xticks(shown, [f"{latest['start'][at]:%Y-%m-%d}" for at in shown])
        axes.set_xlim(-0.6, max(len(latest), _LEAST_BARS) - 0.4)
        axes.set_ylabel(name)

    return _figure(draw)


def run_chart(runs: pd.DataFrame, buckets: Buckets) -> Figure:
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

    return _figure(draw, buckets)


def _by_stream(loads: pd.DataFrame, column: str, how: Literal["sum", "max"], filled: bool = True) -> pd.DataFrame:
    """A column for each stream, the largest first; those beyond the sixth together as `others`, the last."""
    weights = loads.groupby("stream")[column].sum().sort_values(ascending=False)
    kept = list(weights.index[: len(COLOURS)])
    names = [_short(name) if name in kept else _OTHERS for name in loads["stream"]]
    table = loads.assign(series=names).pivot_table(index="at", columns="series", values=column, aggfunc=how)
    order = [*dict.fromkeys(map(_short, kept)), *([_OTHERS] if _OTHERS in table else [])]
    table = table[list(dict.fromkeys(order))]
    return table.fillna(0) if filled else table


def _middles(values: pd.Series, buckets: Buckets) -> pd.DatetimeIndex:
    """Where the points of buckets are drawn: their index has the starts."""
    return pd.DatetimeIndex(values.index) + pd.Timedelta(buckets.step / 2)


def _colours(table: pd.DataFrame) -> list[str]:
    return [GREY if name == _OTHERS else colour for name, colour in zip(table, (*COLOURS, GREY), strict=False)]


def _short(name: object) -> str:
    text = str(name)
    return text if len(text) <= 24 else text[:23] + "…"


def _unit(most: float) -> tuple[float, str]:
    return next(((size, name) for size, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")) if most >= size), (1e3, "kB"))


def _figure(draw: Callable[[Axes], None], buckets: Buckets | None = None) -> Figure:
    """What `draw` draws. With `buckets`, the x axis is their time, whatever there is to draw."""
    from matplotlib import rc_context
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    with rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may have characters that no font of this machine has
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        if buckets is not None:
            first: Any = buckets.first
            end: Any = buckets.end
            axes.set_xlim(first, end)
            locator = AutoDateLocator(maxticks=6)  # type: ignore[no-untyped-call]
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return figure
