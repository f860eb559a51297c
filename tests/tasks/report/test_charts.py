"""What the charts of a report draw: the newest bucket too, the period and nothing else, in colours all can see."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from math import dist
from typing import Any

import pandas as pd
import pytest
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from tasks.report import charts
from tasks.report.load_frames import buckets

NOW = datetime(2026, 11, 28, 9, 20, tzinfo=UTC)
DAY = timedelta(days=1)
NUMBER: Callable[[Any], float] = date2num  # matplotlib has no types for it


def loads(*starts: datetime, streams: int = 1) -> pd.DataFrame:
    """A row for each start and stream: a load of 3600 entries that took half a second."""
    return pd.DataFrame(
        [
            {"at": pd.Timestamp(at), "stream": f"stream-{number:02}", "read": 3600 * (streams - number)}
            | {"longest_seconds": 0.5, "oldest_seconds": 2.0 * (streams - number)}
            for at in starts
            for number in range(streams)
        ]
    )


def at_times(numbers: Any) -> Any:
    """Equal to a tenth of a second; by default, half an hour is a small part of the time since 1970."""
    return pytest.approx(numbers, rel=0, abs=1e-6)


def axes_of(figure: Figure) -> Any:
    (found,) = figure.axes
    return found


def high_points(figure: Figure) -> tuple[list[float], list[float]]:
    """Where, and how high, the only area of a chart is above zero."""
    (area,) = axes_of(figure).collections
    high = [(float(x), float(y)) for x, y in area.get_paths()[0].vertices if y > 0]
    return [x for x, _ in high], [y for _, y in high]


@pytest.mark.parametrize("span", [timedelta(hours=1), DAY, 7 * DAY, 90 * DAY])
def test_the_newest_bucket_is_drawn_with_its_whole_width_even_if_it_is_the_only_one(span: timedelta) -> None:
    time = buckets(NOW - span, NOW)
    newest = time.end - time.step
    assert newest <= NOW < time.end
    times, rates = high_points(charts.rate_chart(loads(newest), time))
    assert (min(times), max(times)) == at_times((NUMBER(newest), NUMBER(time.end)))
    assert max(rates) == pytest.approx(3600 / time.step.total_seconds())


def test_a_bucket_before_the_newest_ends_where_the_next_one_begins() -> None:
    time = buckets(NOW - 7 * DAY, NOW)
    times, _ = high_points(charts.rate_chart(loads(time.end - 2 * time.step), time))
    assert (min(times), max(times)) == at_times((NUMBER(time.end - 2 * time.step), NUMBER(time.end - time.step)))


def test_all_charts_over_time_have_the_period_as_their_axis_also_with_a_single_point() -> None:
    time = buckets(NOW - 7 * DAY, NOW)
    one = loads(time.end - time.step)
    nothing = pd.DataFrame(columns=["table", "start", "seconds"])
    runs = pd.DataFrame([("drain-1", "drain", "Completed", NOW, NOW, 1.0)],
                        columns=["name", "flow", "state", "due", "started", "seconds"])  # fmt: skip
    for figure in (
        charts.rate_chart(one, time),
        charts.lag_chart(one, time),
        charts.load_chart(one, nothing, time),
        charts.run_chart(runs, time),
    ):
        assert axes_of(figure).get_xlim() == at_times((NUMBER(time.first), NUMBER(time.end)))


def test_a_point_of_a_bucket_is_within_it() -> None:
    time = buckets(NOW - 7 * DAY, NOW)
    one = loads(time.end - time.step)
    nothing = pd.DataFrame(columns=["table", "start", "seconds"])
    for figure in (charts.lag_chart(one, time), charts.load_chart(one, nothing, time)):
        (line,) = axes_of(figure).lines
        (at,) = line.get_xdata()
        assert NUMBER(time.end - time.step) < NUMBER(at) < NUMBER(time.end)


def test_every_compression_of_the_period_is_drawn_and_named_once() -> None:
    time = buckets(NOW - DAY, NOW)
    starts = [NOW - 3 * DAY, NOW - timedelta(hours=20), NOW - timedelta(hours=8)]
    runs = pd.DataFrame([{"table": "events", "start": start, "seconds": 1800.0} for start in starts])
    axes = axes_of(charts.load_chart(loads(time.end - time.step), runs, time))
    spans = [NUMBER(start) for start in starts[1:]]
    assert [patch.get_x() for patch in axes.patches] == at_times(spans)
    assert axes.get_legend_handles_labels()[1] == ["longest load", "compression"]


def test_streams_beyond_those_that_have_a_colour_are_one_series_the_last_in_grey() -> None:
    time = buckets(NOW - DAY, NOW)
    many = loads(time.end - time.step, streams=len(charts.COLOURS) + 3)
    areas = axes_of(charts.rate_chart(many, time)).collections
    assert [str(area.get_label()) for area in areas] == [*(f"stream-{n:02}" for n in range(6)), "others"]
    lines = axes_of(charts.lag_chart(many, time)).lines
    assert [line.get_color() for line in lines] == [*charts.COLOURS, charts.GREY]


def test_a_table_with_one_chunk_is_a_bar_and_not_a_wall() -> None:
    chunk = {"start": NOW, "bytes": 5_000_000, "state": "rows"}
    axes = axes_of(charts.chunk_chart(pd.DataFrame([chunk])))
    low, high = axes.get_xlim()
    (bar,) = axes.patches
    assert bar.get_width() < (high - low) / 4


def test_rows_that_a_route_sent_to_other_tables_are_part_of_the_whole() -> None:
    outcome = {"stream": "web", "inserted": 25, "other_tables": 75, "duplicates": 0, "conflicts": 0}
    axes = axes_of(charts.outcome_chart(pd.DataFrame([outcome | {"refused": 0, "lost": 0}])))
    assert [bar.get_width() for bar in axes.patches] == [25, 0, 0, 0, 0, 75]
    assert axes.get_legend_handles_labels()[1][-1] == "other tables"


# How people without one kind of cones see linear RGB (Machado, Oliveira and Fernandes, 2009).
SIGHT = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "no green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "no blue": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
LIGHT, DARK = "#FFFFFF", "#121212"


def linear(colour: str) -> list[float]:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def lab(colour: str, sight: str) -> tuple[float, float, float]:
    """CIE L*a*b* as somebody with that sight sees the colour."""
    seen = [sum(m * c for m, c in zip(row, linear(colour), strict=True)) for row in SIGHT[sight]]
    r, g, b = (min(1.0, max(0.0, part)) for part in seen)
    xyz = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505, luminance(r, g, b), 0.0177 * r + 0.1095 * g + 0.8729 * b
    x, y, z = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def luminance(r: float, g: float, b: float) -> float:
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def difference(one: str, other: str, sight: str) -> float:
    return dist(lab(one, sight), lab(other, sight))


def contrast(one: str, other: str) -> float:
    low, high = sorted(luminance(*linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize(
    "palette",
    [(*charts.COLOURS, charts.GREY), (*charts.OUTCOMES.values(), charts.GREY), tuple(charts.STATES.values())],
    ids=["series", "outcomes", "states"],
)
def test_colours_of_one_chart_differ_for_everybody_on_light_and_dark(palette: tuple[str, ...], sight: str) -> None:
    """A difference of 2 is just visible side by side; the two greys of before were 10 apart."""
    assert min(difference(*pair, sight) for pair in pairwise(palette)) > 15
    assert min(difference(*pair, sight) for pair in combinations(palette, 2)) > 12
    assert all(contrast(colour, ground) > 2 for colour in palette for ground in (LIGHT, DARK))
