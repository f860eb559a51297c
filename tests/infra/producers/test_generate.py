"""Generated events: the same for the same options, in the requested shares, and valid unless flagged as bad."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from math import sqrt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors.exceptions import Terminal
from infra.producers.broken import DEFECTS, Entry, damaged
from infra.producers.generate import GeneratedEntries, as_document, batches

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIELDS = [b"event_id", b"event_type", b"user_id", b"time", b"properties"]
_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def _whole(events: int, **options: Any) -> GeneratedEntries:
    parts = list(batches(events, **{"start": START, **options}))
    return GeneratedEntries(
        [entry for part in parts for entry in part.entries],
        [bad for part in parts for bad in part.bad],
        [duplicate for part in parts for duplicate in part.duplicate],
    )


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _fault(entry: Entry) -> str | None:
    """Why `entry` cannot become a row, judged without the code under test; None if it can."""
    if list(entry) != FIELDS:
        return "fields"
    try:
        texts = {field: value.decode() for field, value in entry.items()}
        uuid.UUID(texts[b"event_id"])
        datetime.fromisoformat(texts[b"time"])
        properties = json.loads(texts[b"properties"], parse_constant=_refuse)
        document = json.dumps([properties, *texts.values()], ensure_ascii=False).encode()
    except ValueError as error:
        return type(error).__name__
    return "NUL" if b"\\u0000" in document else None


def _near(count: int, share: float, of: int) -> bool:
    """Within five standard deviations: a seed fails by chance less than once in a million."""
    return abs(count - share * of) <= 5 * sqrt(of * share * (1 - share)) + 1


def test_the_same_seed_and_options_give_the_same_events_at_any_batch_size() -> None:
    options = {"duplicates": 0.2, "bad": 0.05, "late": 0.1, "seed": 7}
    first = _whole(12_345, **options)
    assert _whole(12_345, **options) == first
    assert _whole(12_345, size=1, **options) == first
    assert _whole(12_345, size=9_999, **options) == first
    assert _whole(12_345, **{**options, "seed": 8}).entries != first.entries


@settings(max_examples=25)
@given(st.integers(0, 7000), st.integers(1, 8000), st.integers(0, 2**64), st.floats(0, 0.5), st.floats(0, 0.5))
def test_all_batches_but_the_last_are_full_and_their_flags_are_correct(
    events: int, size: int, seed: int, duplicates: float, bad: float
) -> None:
    made = list(batches(events, size=size, seed=seed, duplicates=duplicates, bad=bad, start=START))
    lengths = [len(batch.entries) for batch in made]
    assert lengths == [size] * (events // size) + ([events % size] if events % size else [])
    seen: set[tuple[tuple[bytes, bytes], ...]] = set()
    for batch in made:
        assert len(batch.bad) == len(batch.duplicate) == len(batch.entries)
        for entry, is_bad, is_duplicate in zip(batch.entries, batch.bad, batch.duplicate, strict=True):
            assert not (is_bad and is_duplicate)
            whole = tuple(entry.items())
            if not is_bad:
                assert (whole in seen) == is_duplicate
                seen.add(whole)


@pytest.mark.parametrize(("duplicates", "bad"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.1), (0.25, 0.02), (0.5, 0.5)])
def test_the_shares_are_as_requested_and_bad_entries_cannot_become_rows(duplicates: float, bad: float) -> None:
    made = _whole(20_000, duplicates=duplicates, bad=bad, seed=3)
    assert _near(sum(made.bad), bad, 20_000)
    assert _near(sum(made.duplicate), duplicates, 20_000)
    assert [_fault(entry) is not None for entry in made.entries] == made.bad


@pytest.mark.parametrize(("duplicates", "bad"), [(1.0, 0.0), (0.0, 1.0)])
def test_a_share_of_one_covers_all_entries_except_the_first_duplicate(duplicates: float, bad: float) -> None:
    made = _whole(6_000, duplicates=duplicates, bad=bad)
    assert sum(made.bad) == 6_000 * bad
    assert sum(made.duplicate) == (5_999 if duplicates else 0)


def test_most_duplicates_repeat_recent_entries_and_some_repeat_old_ones() -> None:
    made = _whole(60_000, duplicates=0.2)
    first: dict[bytes, int] = {}
    back = []
    for position, entry in enumerate(made.entries):
        if made.duplicate[position]:
            back.append(position - first[entry[b"event_id"]])
        else:
            first[entry[b"event_id"]] = position
    recent = sum(distance <= 2_000 for distance in back) / len(back)
    assert 0.75 < recent < 0.9
    assert max(back) > 30_000


def test_every_defect_occurs() -> None:
    faults = Counter(_fault(entry) for entry in _whole(5_000, bad=1.0).entries)
    assert set(faults) == {"fields", "ValueError", "JSONDecodeError", "UnicodeEncodeError", "UnicodeDecodeError", "NUL"}


@pytest.mark.parametrize("way", range(len(DEFECTS)), ids=list(DEFECTS))
def test_each_defect_breaks_the_entry_and_its_document_but_not_the_original(way: int) -> None:
    entry = _whole(1).entries[0]
    copy = dict(entry)
    worse = damaged(entry, way)
    assert entry == copy
    assert _fault(entry) is None
    assert _fault(worse) is not None
    assert _document_fault(as_document(worse)[b"data"]) is not None


def _document_fault(document: bytes) -> str | None:
    try:
        whole = json.loads(document.decode(), parse_constant=_refuse)
        again = {k.encode(): (json.dumps(v) if k == "properties" else v).encode() for k, v in whole.items()}
    except ValueError as error:
        return type(error).__name__
    return _fault(again)


def test_a_document_has_the_same_values_as_the_fields() -> None:
    for entry in _whole(2_000).entries:
        document = json.loads(as_document(entry)[b"data"])
        assert list(document) == [field.decode() for field in FIELDS]
        assert document.pop("properties") == json.loads(entry[b"properties"])
        assert document == {k.decode(): v.decode() for k, v in entry.items() if k != b"properties"}


def test_events_are_realistic() -> None:
    """UUIDs v4, all different; skewed types and users; nested properties, some not ASCII; about 200 bytes."""
    entries = _whole(20_000).entries
    ids = [uuid.UUID(entry[b"event_id"].decode()) for entry in entries]
    assert len(set(ids)) == len(ids)
    assert {(i.version, i.variant) for i in ids} == {(4, uuid.RFC_4122)}
    types = Counter(entry[b"event_type"] for entry in entries).most_common()
    assert len(types) == 12
    assert types[0][1] > 10 * types[-1][1]
    users = Counter(entry[b"user_id"] for entry in entries).most_common()
    assert len(users) > 3_000
    assert users[0][1] > 500
    assert any(isinstance(value, dict) for value in json.loads(entries[0][b"properties"]).values())
    assert sum(not entry[b"properties"].isascii() for entry in entries) > 5_000
    assert 180 < sum(len(value) for entry in entries for value in entry.values()) / len(entries) < 240


def test_times_rise_over_the_span_before_start_with_a_jitter() -> None:
    texts = [entry[b"time"] for entry in _whole(20_000, span_hours=2).entries]
    assert all(_TIME.fullmatch(text) for text in texts)
    times = [datetime.fromisoformat(text.decode()) for text in texts]
    for position, at in enumerate(times):
        expected = START - timedelta(hours=2) * (1 - position / 20_000)
        assert abs(at - expected) < timedelta(seconds=15)
        assert at <= START
    assert times != sorted(times)


@pytest.mark.parametrize("duplicates", [0.0, 0.3])
def test_late_events_are_an_hour_to_sixty_days_older(duplicates: float) -> None:
    made = _whole(20_000, late=0.1, span_hours=0.5, duplicates=duplicates)
    ages = [START - datetime.fromisoformat(entry[b"time"].decode()) for entry in made.entries]
    late = [age for age in ages if age > timedelta(hours=0.9)]
    # A repeat is late if its original is, so the flags depend on each other and the bound is wider.
    assert _near(len(late), 0.1, 20_000) or (duplicates and abs(len(late) - 2_000) < 400)
    assert timedelta(days=30) < max(ages) < timedelta(days=60, hours=1)
    assert sum(age > timedelta(days=1) for age in late) > 200


def test_a_start_without_zone_is_utc() -> None:
    assert _whole(10, start=START.replace(tzinfo=None)) == _whole(10)


@pytest.mark.parametrize(
    "options",
    [
        {"bad": -0.1},
        {"late": 1.1},
        {"duplicates": float("nan")},
        {"duplicates": 0.6, "bad": 0.6},
        {"events": -1},
        {"seed": -1},
        {"size": 0},
        {"span_hours": 0},
        {"span_hours": float("inf")},
    ],
    ids=str,
)
def test_an_argument_out_of_range_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(Terminal, match="expected"):
        batches(**{"events": 1, **options})
