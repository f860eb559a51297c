"""A report as one HTML file: styles and pictures are in it, and its policy forbids to load anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from itertools import pairwise

import pandas as pd

from infra.display import count_of, printable
from tasks.report import charts
from tasks.report.frames import Frames
from tasks.report.load_frames import buckets
from tasks.report.svg import as_svg

_MOST_ROWS = 200  # of a table on the page
_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; } .meta, figcaption { opacity: .75; font-size: .9rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; border: 1px solid var(--line); border-radius: .5rem; padding: .75rem; min-width: 0; }
figure svg { width: 100%; height: auto; } figure h2 { margin: 0 0 .25rem; }
.attention, .fine { margin: 1rem 0; }
.attention { border-left: .3rem solid #c33; padding: .5rem 1rem; background: #c331; }
.fine { border-left: .3rem solid #096; padding: .5rem 1rem; background: #0961; }
.attention ul { margin: .3rem 0; padding-left: 1.2rem; } li { overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Picture:
    """A chart with its title, and what it shows."""

    title: str
    svg: str
    note: str


def page(frames: Frames, title: str) -> str:
    """The page. Every text of a frame is escaped."""
    span = f"{_moment(frames.since)} to {_moment(frames.now)} (UTC)"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="meta">{span}</p>',
        _attention(frames.attention),
        '<div class="charts">' + "".join(map(_figure, pictures(frames))) + "</div>",
        *_tables(frames),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _attention(items: Sequence[str]) -> str:
    if not items:
        return '<div class="fine"><p>Nothing needs attention.</p></div>'
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f'<div class="attention"><p>{len(items)} to look at:</p><ul>{lines}</ul></div>'


def pictures(frames: Frames) -> Iterator[Picture]:
    """The charts that there is something for."""
    time = buckets(frames.since, frames.now)
    if len(frames.loads):
        note = f"{_per(time.step)} The newest is not over yet."
        yield Picture("Events per second", as_svg(charts.rate_chart(frames.loads, time), "rate"), note)
        if frames.loads["oldest_seconds"].notna().any():
            note = "How old the newest entry of a batch was when it was loaded; " + _per(time.step).lower()
            yield Picture("Lag", as_svg(charts.lag_chart(frames.loads, time), "lag"), note)
        note = "The longest load of a batch, and when the database compressed."
        yield Picture("Load times", as_svg(charts.load_chart(frames.loads, frames.compressions, time), "loads"), note)
    if len(frames.outcomes):
        note = "Of all entries since the first drain; the streams with the most."
        yield Picture("What became of the entries", as_svg(charts.outcome_chart(frames.outcomes), "outcomes"), note)
    for number, (table, chunks) in enumerate(frames.chunks.groupby("table")):
        svg = as_svg(charts.chunk_chart(chunks), f"chunks{number}")
        yield Picture(f"Chunks of {printable(str(table))}", svg, _sizes(chunks))
    if len(frames.runs):
        yield Picture("Runs", as_svg(charts.run_chart(frames.runs, time), "runs"), _gaps(frames.runs))


def _figure(picture: Picture) -> str:
    title, note = escape(picture.title), escape(picture.note)
    return f"<figure><h2>{title}</h2>{picture.svg}<figcaption>{note}</figcaption></figure>"


def _per(step: timedelta) -> str:
    minutes = int(step.total_seconds() // 60)
    return f"Each point is {minutes} min." if minutes < 60 else f"Each point is {minutes // 60} h."


def _sizes(chunks: pd.DataFrame) -> str:
    compressed = chunks.dropna(subset=["ratio"])
    before, after = (compressed["bytes"] * compressed["ratio"]).sum(), compressed["bytes"].sum()
    ratio = f", {_change(before / after)}" if before and after else ""
    latest = f" The latest {charts.MOST_CHUNKS} are drawn." if len(chunks) > charts.MOST_CHUNKS else ""
    size = f"{count_of(len(chunks), 'chunk')}, {chunks['bytes'].sum() / 1e6:,.1f} MB"
    return f"{size}; {len(compressed):,} compressed{ratio}.{latest}"


def _change(ratio: float) -> str:
    """What compression did to the size. `ratio`: before to after."""
    larger, factor = ratio < 1, max(ratio, 1 / ratio)
    if factor < 1.05:
        return "about as large as before"
    return f"{factor:.1f} times {'larger' if larger else 'smaller'} than before"


def _gaps(runs: pd.DataFrame) -> str:
    """How many runs there were, and the longest time between the starts of two drains."""
    failed = int((runs["state"] != "Completed").sum())
    note = f"{count_of(len(runs), 'run')}, {failed:,} not completed."
    started = sorted(pd.to_datetime(runs[runs["flow"] == "drain"]["started"].dropna(), utc=True))
    gaps = [(after - before, after) for before, after in pairwise(started)]
    if gaps:
        longest, end = max(gaps)
        minutes = longest.total_seconds() / 60
        note += f" The longest time between two drains was {minutes:,.1f} min, until {_moment(end)}."
    return note


def _tables(frames: Frames) -> Iterator[str]:
    none = [] if frames.outcomes["other_tables"].any() else ["other_tables"]
    yield _table("Streams", frames.outcomes.drop(columns=none))
    yield _table("Quarantine, by reason", frames.reasons)
    chunks = frames.chunks.assign(size=[f"{size / 1e6:,.2f} MB" for size in frames.chunks["bytes"]])
    columns = ["table", "start", "end", "rows", "size", "state", "ratio", "next"]
    yield _table("Chunks and what happens to them next", chunks[columns].iloc[::-1])
    failed = frames.runs[~frames.runs["state"].isin(["Completed", "Running", "Scheduled"])]
    yield _table("Runs that were not completed", failed)


def _table(title: str, frame: pd.DataFrame) -> str:
    """A table with its heading; nothing if it has no rows."""
    if not len(frame):
        return ""
    shown = frame.head(_MOST_ROWS)
    numeric = [pd.api.types.is_numeric_dtype(shown[name]) and shown[name].dtype != bool for name in shown]
    head = "".join(_cell("th", str(name), number) for name, number in zip(shown, numeric, strict=True))
    rows = "".join(
        f"<tr>{''.join(_cell('td', _text(value), number) for value, number in zip(row, numeric, strict=True))}</tr>"
        for row in shown.itertuples(index=False)
    )
    more = f'<p class="meta">{len(frame) - len(shown):,} more are not shown.</p>' if len(frame) > len(shown) else ""
    return f'<h2>{escape(title)}</h2><div class="wide"><table><tr>{head}</tr>{rows}</table></div>{more}'


def _cell(tag: str, text: str, number: bool) -> str:
    return f"<{tag}{' class=number' * number}>{escape(text)}</{tag}>"


def _text(value: object) -> str:
    if value is None or value is pd.NaT or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:,.1f}" if isinstance(value, float) else printable(str(value))


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"
