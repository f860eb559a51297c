"""JSON documents to events, and what becomes of those that are none."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.mapping.column_source import ColumnSource, key_source
from tasks.columns.row_layout import bind
from tasks.columns.uuids import NAMESPACE
from tests.support.decoded_entries import ID, TIME_US, decoded, decoded_json, document
from tests.support.events_layouts import ANY, EVENTS, JSON, WHOLE_DOCUMENT, with_sources

WHOLE = with_sources(JSON, properties=WHOLE_DOCUMENT)


def with_value(key: str, text: bytes) -> bytes:
    """A good document with `text` as the value of `key`."""
    return document(**{key: "@@"}).replace(b'"@@"', text)


def test_a_document_becomes_a_row_field_by_field() -> None:
    events = decoded_json([document(event_type="né", user_id="u1")])
    assert events.time.tolist() == [TIME_US]
    assert events.event_id.tobytes().hex() == ID.replace("-", "")
    assert events.event_type.to_pylist() == ["né".encode()]
    assert events.user_id.to_pylist() == [b"u1"]
    assert events.properties.to_pylist() == [b'{"n": 1}']


@pytest.mark.parametrize(
    ("text", "user"),
    [
        (b"5", b"5"),
        (b"-5", b"-5"),
        (b"1.5", b"1.5"),
        (b"18446744073709551616", b"18446744073709551616"),
        (b"123456789012345678901234567890", b"123456789012345678901234567890"),
        (b"9" * 5_000, b"9" * 5_000),
        (b"5.10", b"5.10"),
        (b"0.1234567890123456789", b"0.1234567890123456789"),
        (b"1E+2", b"1E+2"),
        (b"1e400", b"1e400"),
        (b"0", b"0"),
        (b"-0", b"-0"),
        (b"-0.0", b"-0.0"),
        (b"true", b"true"),
        (b"false", b"false"),
        (b'""', b""),
        (b'"\\u00e9\\n"', "é\n".encode()),
        (b'"\\ud83d\\ude00"', "😀".encode()),
    ],
)
def test_a_user_id_may_be_a_text_a_boolean_or_a_number_whose_every_digit_counts(text: bytes, user: bytes) -> None:
    one = with_value("user_id", text)
    events = decoded_json([document(user_id="a"), one, document(user_id="b")])
    assert events.user_id.to_pylist() == [b"a", user, b"b"]
    assert decoded_json([one, one]).user_id.to_pylist() == [user, user], "also where no neighbour has a text"
    negative = with_value("user_id", b"-0").replace(b'"n": 1', b'"n": -0')
    assert decoded_json([one, negative]).user_id.to_pylist() == [user, b"-0"]


def test_numbers_and_booleans_of_a_template_keep_their_text() -> None:
    layout = with_sources(
        JSON,
        event_type=ColumnSource(("v", "major", "/", "live", "")),
        event_id=ColumnSource(("", "user_id", "-", "major", ""), namespace=NAMESPACE),
    )
    one = with_value("user_id", b"-0").replace(b"{", b'{"major": 5.10, "live": true, ', 1)
    events = decoded_json([one], layout)
    assert events.event_type.to_pylist() == [b"v5.10/true"]
    assert events.event_id.tobytes() == uuid.uuid5(NAMESPACE, "-0-5.10").bytes


def test_a_zero_is_not_mistaken_for_a_negative_one_elsewhere_in_the_document() -> None:
    one = with_value("user_id", b"0").replace(b'"n": 1', b'"n": -0')
    assert decoded_json([one, one]).user_id.to_pylist() == [b"0", b"0"]


@pytest.mark.parametrize(
    "text", [b"1704164645", b"1704164645.0", b"1704164645000", b"1704164645000000", b"1.704164645e9"]
)
def test_a_time_may_be_a_number_among_texts(text: bytes) -> None:
    assert decoded_json([document(), with_value("time", text)]).time.tolist() == [TIME_US, TIME_US]


def test_the_time_may_be_called_timestamp() -> None:
    assert decoded_json([document().replace(b'"time"', b'"timestamp"')]).time.tolist() == [TIME_US]


EXACT = [
    b'{"big": 123456789012345678901234567890, "one": 1.0, "e": 1E+2, "a": 1, "a": 2}',
    b'{ "spaces" :  [ 1 ,2 ] }',
    b'{"escaped": "\\u00e9\\/\\ud83d\\ude00"}',
    b"[1, 2.50]",
    b'"text"',
    b"-0.0",
    b"true",
    b"{}",
]


@pytest.mark.parametrize("text", EXACT)
def test_properties_are_the_very_text_that_came(text: bytes) -> None:
    assert decoded_json([with_value("properties", text), document()]).properties.to_pylist() == [text, b'{"n": 1}']


def test_properties_that_are_null_or_absent_are_none() -> None:
    absent = document().replace(b'"properties"', b'"other"')
    assert decoded_json([with_value("properties", b" null "), absent]).properties.to_pylist() == [None, None]


def test_the_whole_document_as_properties_is_the_very_text_that_came() -> None:
    documents = [b" \n" + with_value("properties", text) for text in EXACT]
    assert decoded_json(documents, WHOLE).properties.to_pylist() == documents


@pytest.mark.parametrize("earlier", [b'"old"', b"null", b"{}", b"[1]", b"true", b'"\xff"', b"1e400"])
def test_of_a_repeated_key_the_last_value_counts_whatever_the_earlier_ones_are(earlier: bytes) -> None:
    twice = document().replace(b'"user_id": "u"', b'"user_id": ' + earlier + b', "user_id": "new"')
    events = decoded_json([document(), twice.replace(b'{"n": 1}', EXACT[0])])
    assert events.user_id.to_pylist() == [b"u", b"new"]
    assert events.properties.to_pylist() == [b'{"n": 1}', EXACT[0]]
    (fault,) = decoded_json([twice.replace(b'"new"', b"{}")]).faults
    assert (fault.field, "got `object` - at `$.user_id`" in fault.reason) == ("data", True)


@pytest.mark.parametrize(
    ("bad", "field", "reason"),
    [
        (b"", "data", "truncated"),
        (b"  ", "data", "truncated"),
        (b"{", "data", "truncated"),
        (b"not json", "data", "malformed"),
        (b"\xff\xfe\x00", "data", "malformed"),
        (document() + b" x", "data", "trailing"),
        (document() + document(), "data", "trailing"),
        (b"[]", "data", "got `array`"),
        (b'[{"event_id": 1}]', "data", "got `array`"),
        (b"null", "data", "got `null`"),
        (b"5", "data", "got `int`"),
        (b'"text"', "data", "got `str`"),
        (b"{}", "time", "missing field time"),
        (with_value("user_id", b"null"), "user_id", "missing field user_id"),
        (with_value("user_id", b'{"id": 5}'), "data", "got `object` - at `$.user_id`"),
        (with_value("user_id", b"[5]"), "data", "got `array` - at `$.user_id`"),
        (with_value("user_id", b'"\\ud800"'), "data", "surrogate"),
        (with_value("user_id", b'"\xff"'), "data", "can't decode byte 0xff"),
        (with_value("user_id", b"NaN"), "data", "malformed"),
        (with_value("time", b"1e400"), "time", "found '1e400'"),
        (with_value("time", b'"soon"'), "time", "found 'soon'"),
        (with_value("time", b'"1e1000000"'), "time", "found '1e1000000'"),
        (with_value("event_id", b"17"), "event_id", "expected a UUID, found '17'"),
        (with_value("event_id", b"null"), "event_id", "missing field event_id"),
        (with_value("properties", b"[" * 100_000 + b"]" * 100_000), "data", "recursion"),
    ],
    ids=lambda value: ascii(value[:40]),
)
def test_a_bad_document_is_one_fault_with_field_and_reason_and_its_neighbours_are_events(
    bad: bytes, field: str, reason: str
) -> None:
    for layout in (ANY, WHOLE):
        events = decoded_json([document(user_id="a"), bad, document(user_id="b")], layout)
        (fault,) = events.faults
        assert (fault.entry, fault.field) == (1, field)
        assert reason in fault.reason
        assert events.user_id.to_pylist() == [b"a", b"b"]
        assert events.entry.tolist() == [0, 2]


def test_an_entry_without_the_field_of_the_mapping_is_a_fault_that_names_it() -> None:
    layout = bind(replace(JSON.mapping, document_field=b"payload"), EVENTS)
    events = decoded([[b"payload", document()], [b"other", document()], [b"payload", document()]], layout)
    assert [(f.entry, f.field, f.reason) for f in events.faults] == [
        (1, "payload", "expected a field 'payload', found none")
    ]
    assert sorted(events.entry.tolist()) == [0, 2]


def test_keys_templates_and_defaults_of_a_mapping() -> None:
    layout = with_sources(
        JSON,
        time=ColumnSource(("", "occurred_at", "")),
        event_id=ColumnSource(("", "id", "")),
        event_type=ColumnSource(("", "source", ".", "kind", "")),
        user_id=ColumnSource(("", "subj", ""), default="unknown"),
        properties=key_source("obj"),
    )
    good = {"id": ID, "occurred_at": 1704164645, "source": "web", "kind": 7, "obj": {"a": [1]}}
    lacking = {key: value for key, value in good.items() if key != "kind"}
    events = decoded_json([json.dumps(d).encode() for d in (good | {"subj": "s"}, good, lacking)], layout)
    assert events.event_type.to_pylist() == [b"web.7", b"web.7"]
    assert events.user_id.to_pylist() == [b"s", b"unknown"]
    assert events.properties.to_pylist() == [b'{"a": [1]}'] * 2
    assert [(f.entry, f.field, f.reason) for f in events.faults] == [(2, "event_type", "missing field kind")]


def test_keys_of_any_spelling_are_read() -> None:
    for key in ("né.{x} 'f1'", "f1", "properties.n", "class", "😀"):
        layout = with_sources(JSON, user_id=key_source(key))
        assert decoded_json([document(**{key: "v"})], layout).user_id.to_pylist() == [b"v"]


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100)
@given(
    st.lists(st.dictionaries(st.sampled_from(["time", "event_id", "user_id", "properties", "x"]), VALUE), max_size=6)
)
def test_no_document_of_any_values_stops_the_good_ones_of_its_batch(many: list[dict[str, object]]) -> None:
    documents = [json.dumps(d).encode() for d in many]
    events = decoded_json([document(user_id="first"), *documents, document(user_id="last")])
    users = events.user_id.to_pylist()
    assert users[0] == b"first"
    assert users[-1] == b"last"


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=40), max_size=6))
def test_no_bytes_stop_the_good_ones_of_their_batch(many: list[bytes]) -> None:
    events = decoded_json([document(user_id="first"), *many, document(user_id="last")])
    assert events.entry.tolist() == [0, len(many) + 1]
