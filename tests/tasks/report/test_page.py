"""The page of a report shows hostile texts as they are, loads nothing, and says what needs attention."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.report.frames import RUN_COLUMNS, Frames
from tasks.report.load_frames import bucket, bucket_start
from tasks.report.page import page, pictures
from tasks.report.publish import as_markdown

NOW = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)
HOSTILE = "<img src=x onerror=alert(1)>$\\frac{1}$</svg><script>attacked=1</script>"


def frames(name: str = "events", reason: str = "", attention: str | None = None) -> Frames:
    """A day with one stream of that name, three chunks, an entry in quarantine and some runs."""
    times = [pd.Timestamp(NOW - timedelta(hours=hours)) for hours in (20, 10, 1)]
    counts = {"read": 900, "inserted": 700, "duplicates": 100, "quarantined": 100, "lost": 0, "bytes": 9, "loads": 1}
    loads = pd.DataFrame(
        [
            {"at": at, "stream": name, "table": name} | counts | {"longest_seconds": 0.5, "oldest_seconds": 2.0}
            for at in times
        ]
    )
    states = ("Completed", "Failed", "Completed")
    outcome = {
        "stream": name,
        "table": name,
        "read": 2700,
        "inserted": 2100,
        "other_tables": 0,
        "duplicates": 300,
        "conflicts": 100,
    }
    chunk = {"table": name, "rows": 5, "exact": True, "bytes": 1_000_000, "next": reason}
    return Frames(
        NOW - timedelta(days=1),
        NOW,
        loads,
        pd.DataFrame([outcome | {"refused": 200, "lost": 0, "accepted": 0, "waiting": 300}]),
        pd.DataFrame(),
        pd.DataFrame(
            [
                chunk | {"start": at, "end": at + timedelta(days=7), "state": state, "ratio": ratio}
                for at, state, ratio in zip(times, ("compressed", "partial", "rows"), (9.5, 3.0, None), strict=True)
            ]
        ),
        pd.DataFrame([{"table": name, "start": times[1], "seconds": 30.0}]),
        pd.DataFrame([{"stream": name, "reason": reason, "entries": 300}]),
        pd.DataFrame(
            [(name, "drain", state, at, at, 1.0) for at, state in zip(times, states, strict=True)],
            columns=list(RUN_COLUMNS),
        ),
        [] if attention is None else [attention],
    )  # fmt: skip


def shown(html: str) -> str:
    """What a reader sees, roughly."""
    return unescape(re.sub(r"<[^>]*>", " ", html))


@settings(max_examples=15)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30) | st.just(HOSTILE))
def test_any_text_is_escaped_and_the_pictures_are_xml(text: str) -> None:
    html = page(frames(text, text, text), text)
    assert "<script" not in html
    assert "<img" not in html
    assert html.count("<svg") == html.count("</svg>") == 6
    for picture in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(picture)  # noqa: S314


def test_the_page_loads_nothing_and_its_policy_forbids_it() -> None:
    html = page(frames(HOSTILE, HOSTILE), "Spillway")
    assert "default-src 'none'" in html
    tags = " ".join(re.findall(r"<[^>]*>", html))
    links = re.findall(r"""(?:src|href|url|action)\s*[=(]\s*["']?([^"')>\s]*)""", tags)
    assert {link[:1] for link in links} <= {"#"}, "only parts of the same picture"
    assert len(html) < 500_000


def test_what_needs_attention_is_at_the_top_in_words() -> None:
    assert "Nothing needs attention." in shown(page(frames(), "Spillway"))
    before, _, after = shown(page(frames(attention="events-web is overdue"), "Spillway")).partition(
        "events-web is overdue"
    )
    assert "1 to look at" in before
    assert "Events per second" in after


def test_the_notes_of_the_pictures_are_the_figures_of_the_frames() -> None:
    notes = {one.title: one.note for one in pictures(frames())}
    assert notes["Chunks of events"] == "3 chunks, 3.0 MB; 2 compressed, 6.2 times smaller than before."
    assert notes["Runs"] == (
        "3 runs, 1 not completed. The longest time between two drains was 600.0 min, until 2026-11-27 23:00."
    )


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (4.0, "4.0 times smaller than before"),
        (1.02, "about as large as before"),
        (0.97, "about as large as before"),
        (0.5, "2.0 times larger than before"),
    ],
)
def test_a_compression_that_made_chunks_larger_does_not_read_as_smaller(ratio: float, words: str) -> None:
    found = frames()
    found.chunks["ratio"] = [ratio, ratio, None]
    notes = {one.title: one.note for one in pictures(found)}
    assert notes["Chunks of events"] == f"3 chunks, 3.0 MB; 2 compressed, {words}."


def test_the_artifact_has_the_same_pictures_and_no_markup_of_others() -> None:
    text = as_markdown(frames("a](javascript:alert(1))", HOSTILE, HOSTILE))
    assert text.count("![chart](data:image/svg+xml;base64,") == 6
    assert "<script" not in text
    assert re.findall(r"(?<!\\)\]\((?!data:image)", text) == []


@pytest.mark.parametrize(
    ("hours", "minutes"), [(1, 1), (24, 15), (25, 60), (7 * 24, 60), (90 * 24, 12 * 60), (9000 * 24, 7 * 24 * 60)]
)
def test_buckets_are_round_and_not_too_many(hours: int, minutes: int) -> None:
    step = bucket(timedelta(hours=hours))
    assert step == timedelta(minutes=minutes)
    start = bucket_start(NOW, step)
    assert start <= NOW < start + step
