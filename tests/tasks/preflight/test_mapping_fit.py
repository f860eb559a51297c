"""Which entries a mapping fits, which it does not, and the mapping that is proposed instead."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors.exceptions import Terminal
from infra.mapping.column_source import ColumnSource, key_source
from infra.mapping.toml import load_mappings
from tasks.columns.decode import decode
from tasks.columns.row_layout import bind
from tasks.preflight.mapping_fit import check_mapping
from tasks.preflight.propose_mapping import proposal
from tests.support.decoded_entries import ANY_TIME, document, flat, groups_of
from tests.support.events_layouts import ANY, EVENTS, FLAT, JSON

GARBAGE = [b"data", b"{not json"]
READINGS = [
    [b"ts", b"%d" % (1_764_000_000_000 + n), b"sensorId", b"s%d" % (n % 3), b"kind", b"temp", b"celsius", b"20.5"]
    for n in range(9)
]
NAMED = bind(replace(JSON.mapping, name="clicks*", columns={"user_id": key_source("who")}), EVENTS)


def test_unreadable_entries_do_not_count_as_entries_without_a_key() -> None:
    assert check_mapping("s", JSON, groups_of([GARBAGE] * 20)) == []
    assert check_mapping("s", ANY, groups_of([GARBAGE] * 20)) == []
    assert check_mapping("s", JSON, groups_of([*[GARBAGE] * 20, [b"data", document()]])) == []
    assert check_mapping("s", JSON, []) == []


def test_a_key_that_no_readable_entry_has_is_refused_with_the_keys_found() -> None:
    entries = [*[GARBAGE] * 20, *[[b"data", document()]] * 3]
    with pytest.raises(Terminal) as refused:
        check_mapping("s", NAMED, groups_of(entries))
    message = str(refused.value)
    assert "streams.\"clicks*\".user_id names 'who', which none of the first 3 readable entries has" in message
    assert "'event_id', 'event_type', 'user_id', 'time', 'properties'; nothing was written" in message


def test_entries_without_the_field_of_the_document_are_refused() -> None:
    with pytest.raises(Terminal, match=r"none of the first 9 readable entries has; they have: 'ts', 'sensorId'"):
        check_mapping("s", NAMED, groups_of(READINGS))


def test_a_stream_is_accepted_if_its_newest_entries_fit() -> None:
    assert check_mapping("s", ANY, groups_of(READINGS), lambda: groups_of([flat()])) == []
    with pytest.raises(Terminal):
        check_mapping("s", ANY, groups_of(READINGS), lambda: groups_of(READINGS))


def test_either_of_the_known_layouts_fits_without_a_mapping() -> None:
    assert check_mapping("s", ANY, groups_of([flat(), [b"data", document()], *READINGS])) == []
    assert check_mapping("s", FLAT, groups_of([[*flat(time=None), b"timestamp", b"1"]])) == []


def test_a_default_used_for_every_entry_is_a_warning_and_for_some_entries_it_is_not() -> None:
    who = ColumnSource(("", "who", ""), default="nobody")
    layout = bind(replace(FLAT.mapping, name="x", columns={"user_id": who}), EVENTS)
    (warning,) = check_mapping("s", layout, groups_of([flat()] * 7))
    assert warning.startswith("s: streams.\"x\".user_id is its default 'nobody' in all of the first 7 entries")
    assert check_mapping("s", layout, groups_of([flat(), flat(who="me")])) == []


SHAPES = {
    "numbers and a sensor": READINGS,
    "a document": [
        [b"payload", json.dumps({"id": n, "createdAt": "2026-01-01", "type": "x"}).encode()] for n in range(3)
    ],
    "no id, no type": [[b"date", b"2026-01-01", b"value", b"%d" % n] for n in range(3)],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_proposed_mapping_turns_all_entries_into_events(shape: str, tmp_path: Path) -> None:
    entries = SHAPES[shape]
    with pytest.raises(Terminal) as refused:
        check_mapping("my stream", ANY, groups_of(entries))
    line = "streams." + str(refused.value).rpartition(" streams.")[2]
    path = tmp_path / "spillway.toml"
    path.write_text(
        f'{line}\n[streams."other"]\nlayout = "flat"\ntime = "t"\nevent_id = "i"\nevent_type = "e"\nuser_id = "u"\n'
    )
    mapping = load_mappings(path).for_stream("my stream")
    assert mapping.name == "my stream"
    layout = bind(mapping, EVENTS)
    assert check_mapping("my stream", layout, groups_of(entries)) is not None
    events = decode(groups_of(entries), layout, ANY_TIME)
    assert (len(events), list(events.faults)) == (len(entries), [])
    assert len(events.rows.column("event_id").unique()) == len(entries)


@given(st.text(), st.lists(st.lists(st.binary(max_size=9), min_size=2, max_size=8), min_size=1, max_size=5))
def test_the_proposal_is_one_printable_line_of_valid_toml_whatever_the_field_names(
    name: str, many: list[list[bytes]]
) -> None:
    line = proposal(name, groups_of([fields[: len(fields) // 2 * 2] for fields in many]))
    assert line.isprintable()
    (table,) = tomllib.loads(line)["streams"].values()
    assert table["layout"] in ("flat", "json")
