"""Whatever a sample looks like: its proposal is valid, and drains the sample without a fault."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.columns.entries import EntryColumns
from tests.support.strategies import TEXT
from tests.support.suggested import drained, flat_entries, json_entries, layout_of, suggested

# Names that meet the syntax of keys, of TOML and of SQL.
NAMES = st.sampled_from(
    [
        *("id", "time", "at", "createdAt", "data", "a", "A", "a.b", "a b", "a{b}", "[0]", "a[0]", "a!r", "dc:title"),
        *('say "hi"', "back\\slash", "ä", "select", "1st", "", " ", "'", "\t", "null", "x" * 70, "x" * 71),
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(1_000_000_000, 4_000_000_000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False, places=2).map(str),
    st.sampled_from(["NA", "", "null", "-", "true", "007", "1e5", "{}", "[1]", '{"a": 1}', "2024-02-30", "24:00"]),
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.datetimes().map(lambda moment: moment.strftime("%d/%m/%Y %H:%M")),
    st.uuids().map(str),
    st.from_regex(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", fullmatch=True),
    TEXT,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
# Keys of one kind each, as real streams have, and keys with anything in them.
ALIKE = st.dictionaries(NAMES, st.sampled_from(range(5)), min_size=1, max_size=5).flatmap(
    lambda kinds: st.lists(
        st.fixed_dictionaries({}, optional={name: _KINDS[kind] for name, kind in kinds.items()}), min_size=1, max_size=6
    )
)
_KINDS = [
    st.integers(1_000_000_000, 4_000_000_000),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.uuids().map(str),
    st.floats(-1e6, 1e6),
    st.fixed_dictionaries({"id": st.integers(0, 9), "at": st.datetimes().map(str)}),
]
DOCUMENTS = ALIKE | st.lists(st.dictionaries(NAMES, VALUES, max_size=5), min_size=1, max_size=6)


def check(groups: Sequence[EntryColumns], count: int) -> None:
    """A drain with the proposal for `count` entries makes a row of each that has a readable document."""
    proposal = suggested(groups)
    with TemporaryDirectory() as folder:
        layout = layout_of(proposal, Path(folder))
    rows = drained(groups, layout)
    assert [fault.reason for fault in rows.faults if not fault.reason.startswith("expected a field")] == []
    assert len(rows.faults) == proposal.unreadable
    assert len(rows) + len(rows.faults) == count or layout.mapping.each is not None


@settings(max_examples=100)
@given(DOCUMENTS, st.sampled_from(["data", "body"]))
def test_a_proposal_for_documents_drains_all_of_them(documents: list[dict[str, Any]], field: str) -> None:
    check(json_entries(documents, field), len(documents))


@settings(max_examples=100)
@given(DOCUMENTS.filter(any))
def test_a_proposal_for_flat_entries_drains_all_of_them(documents: list[dict[str, Any]]) -> None:
    rows = [{name: _text(value) for name, value in document.items()} for document in documents if document]
    check(flat_entries(rows), len(rows))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
