"""Entries taken apart: the encodings of their document, and arrays whose elements become one row each."""

from __future__ import annotations

import base64
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.mapping.column_source import key_source
from infra.mapping.stream_mapping import Encoding
from tasks.columns import parts as parts_module
from tasks.columns.parts import Parts, take_apart
from tasks.columns.row_layout import RowLayout
from tests.support.decoded_entries import groups_of
from tests.support.events_layouts import JSON
from tests.support.small_layouts import layout_of as small_layout

TEXT = b'{"n": [1, 2], "text": "n\xc3\xa9"}'
GZIPPED = gzip.compress(TEXT, mtime=0)  # without a time, so that a test has the same name in every worker


def layout_of(*encodings: Encoding, each: str | None = None) -> RowLayout:
    return replace(JSON, mapping=replace(JSON.mapping, encodings=encodings, each=each))


def parts_of(layout: RowLayout, *documents: bytes) -> Parts:
    return take_apart(groups_of([[b"data", document] for document in documents]), layout)


def documents_of(parts: Parts) -> list[bytes | None]:
    return [document for group in parts.groups for document in group.column(b"data").to_pylist()]


def reason_of(layout: RowLayout, document: bytes) -> str:
    """The reason of the only fault of a document."""
    parts = parts_of(layout, document)
    assert (documents_of(parts), list(parts.faults), parts.faults[0][0]) == ([None], [0], "data")
    return parts.faults[0][1]


def zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)


def test_without_encoding_and_each_the_entries_stay_as_they_are() -> None:
    groups = groups_of([[b"data", b"x"], [b"other", b"y"], [b"data", b"z"]])
    parts = take_apart(groups, JSON)
    assert parts.groups is groups
    assert (len(parts), parts.entry, parts.number, parts.faults) == (3, None, None, {})


ENCODERS: list[tuple[Encoding, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("gzip", zlib.compress),
    ("zstd", zstd),
    ("base64", base64.b64encode),
    ("base64", base64.urlsafe_b64encode),
    ("base64", lambda data: base64.b64encode(data).rstrip(b"=")),
    ("base64", lambda data: b" " + base64.encodebytes(data).replace(b"\n", b"") + b"\r\n"),
]


@pytest.mark.parametrize(("encoding", "encode"), ENCODERS)
@given(data=st.binary(max_size=40))
def test_each_encoding_gives_the_bytes_that_were_encoded(
    encoding: Encoding, encode: Callable[[bytes], bytes], data: bytes
) -> None:
    parts = parts_of(layout_of(encoding), encode(data))
    assert documents_of(parts) == [data]
    assert parts.faults == {}


def test_messagepack_becomes_json() -> None:
    value = {"n": [1, 2.5, None, True], "text": "né"}
    (document,) = documents_of(parts_of(layout_of("msgpack"), msgspec.msgpack.encode(value)))
    assert json.loads(document or b"") == value


def test_encodings_are_undone_from_the_outermost_on() -> None:
    encoded = base64.b64encode(gzip.compress(zstd(TEXT)))
    assert documents_of(parts_of(layout_of("base64", "gzip", "zstd"), encoded)) == [TEXT]
    assert reason_of(layout_of("gzip", "base64", "zstd"), encoded).startswith("expected gzip, found something else (")


def test_gzip_members_in_a_row_are_one_document() -> None:
    members = gzip.compress(TEXT[:5]) + gzip.compress(b"") + gzip.compress(TEXT[5:])
    assert documents_of(parts_of(layout_of("gzip"), members)) == [TEXT]


@pytest.mark.parametrize(
    ("encoding", "document", "why"),
    [
        ("gzip", b"", "(it is truncated)"),
        ("gzip", GZIPPED[:-1], "(it is truncated)"),
        ("gzip", GZIPPED + GZIPPED[:-9], "(it is truncated)"),
        ("gzip", TEXT, "incorrect header check"),
        ("gzip", GZIPPED + b"more", "incorrect header check"),
        ("gzip", GZIPPED[:-5] + b"\0\0\0\0\0", "incorrect"),
        ("zstd", TEXT, "zstd"),
        ("base64", b"ab!d", "Only base64 data is allowed"),
        ("base64", b"a", "base64"),
        ("msgpack", b"\xc1", ""),
        ("msgpack", b"\x92\x01", "truncated"),
        ("msgpack", b"\xa1\xff", "utf-8"),
    ],
)
def test_what_is_not_encoded_so_is_a_fault_that_names_the_encoding(
    encoding: Encoding, document: bytes, why: str
) -> None:
    reason = reason_of(layout_of(encoding), document)
    assert reason.startswith(f"expected {encoding}, found something else (")
    assert why in reason


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("gzip", lambda data: gzip.compress(data[:1]) + gzip.compress(data[1:])),
        ("gzip", lambda data: gzip.compress(data[:-1]) + gzip.compress(data[-1:])),
        ("zstd", zstd),
    ],
)
def test_a_document_may_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, encoding: Encoding, encode: Callable[[bytes], bytes]
) -> None:
    assert parts_module._MAX_DOCUMENT == 256 * 1024 * 1024
    monkeypatch.setattr(parts_module, "_MAX_DOCUMENT", 2 << 20)
    largest = bytes(2 << 20)
    assert documents_of(parts_of(layout_of(encoding), encode(largest))) == [largest]
    reason = reason_of(layout_of(encoding), encode(largest + b"\0"))
    assert reason == f"expected {encoding}, found something else (more than 2 MB)"


def test_no_more_than_the_largest_document_is_ever_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "_MAX_DOCUMENT", 1 << 20)
    bomb = gzip.compress(bytes(64 << 20))
    for document in (bomb, gzip.compress(b"a") + bomb):
        tracemalloc.start()
        try:
            assert "more than 1 MB" in reason_of(layout_of("gzip"), document)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()


def test_each_element_is_a_part_with_its_entry_and_its_number_from_one_on() -> None:
    groups = groups_of(
        [
            [b"data", b'{"items": [{"a": 1.0}, 2, "x"]}'],
            [b"data", b'{"items": []}'],
            [b"other", b""],
            [b"data", b'{"items": [null, [3]]}'],
        ]
    )
    parts = take_apart(groups, layout_of(each="items"))
    assert len(parts) == 6
    assert documents_of(parts) == [b'{"a": 1.0}', b"2", b'"x"', b"null", b"[3]", None]
    assert parts.entry is not None
    assert parts.number is not None
    assert parts.entry.tolist() == [0, 0, 0, 2, 2, 3]  # the entry without the field is alone in the last group
    assert parts.number.tolist() == [1, 2, 3, 1, 2, 0]
    assert [group.ids.to_pylist() for group in parts.groups] == [[b"1-0"] * 3 + [b"4-0"] * 2, [b"3-0"]]
    assert [group.keys for group in parts.groups] == [(b"data",), (b"data",)]
    assert parts.faults == {}


def test_entries_and_elements_may_be_encoded() -> None:
    document = gzip.compress(b'{"a": {"b": "[[], [1, 2]]"}}')
    assert documents_of(parts_of(layout_of("gzip", each="a.b[1]"), document)) == [b"1", b"2"]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"{}", "expected an array at a.b[0].c, found nothing"),
        (b'{"a": {"b": [{"c": null}]}}', "expected an array at a.b[0].c, found nothing"),
        (b'{"a": {"b": [{"c": {"0": 1}}]}}', "expected an array at a.b[0].c, found no array"),
        (b'{"a": {"b": [{"c": 5}]}}', "expected an array at a.b[0].c, found no array"),
        (b'{"a": {"b": [{"c": "[1]"}]}}', "expected an array at a.b[0].c, found no array"),
        (b'{"a": {"b": [{"\xff": [1]}]}}', "utf-8"),
        (b'{"a": {"b": [', "truncated"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "recursion"),
    ],
)
def test_a_document_without_the_array_is_one_part_with_a_fault(document: bytes, reason: str) -> None:
    layout = layout_of(each="a.b[0].c")
    assert reason in reason_of(layout, document)
    good = b'{"a": {"b": [{"c": [1, 2]}]}}'
    parts = parts_of(layout, good, document, good)
    assert documents_of(parts) == [b"1", b"2", None, b"1", b"2"]
    assert parts.entry is not None
    assert parts.number is not None
    assert (parts.entry.tolist(), parts.number.tolist()) == ([0, 0, 1, 2, 2], [1, 2, 0, 1, 2])
    assert list(parts.faults) == [2]
    assert parts.faults[2][0] == "data"


def test_the_fault_is_of_the_field_that_holds_the_document() -> None:
    layout = layout_of("gzip")
    layout = replace(layout, mapping=replace(layout.mapping, document_field=b"n\xff"))
    parts = take_apart(groups_of([[b"n\xff", b"x"]]), layout)
    assert parts.faults[0][0] == "n\ufffd"


def test_a_decoded_document_is_a_whole_entry() -> None:
    documents = [gzip.compress(b"%d" % n) for n in range(5)]
    groups = groups_of(
        [*([b"data", text] for text in documents[:3]), *([b"data", t, b"x", b""] for t in documents[3:])]
    )
    parts = take_apart(groups, layout_of("gzip"))
    assert parts.entry is not None
    assert parts.number is not None
    assert (parts.entry.tolist(), parts.number.tolist()) == ([0, 1, 2, 3, 4], [0, 0, 0, 0, 0])
    assert [len(group) for group in parts.groups] == [3, 2]


def test_each_element_has_the_keys_of_the_whole_document_that_columns_read() -> None:
    sources = {"a": key_source("$.order.id"), "b": key_source("$.at"), "c": key_source("n"), "d": key_source("order")}
    layout = small_layout(dict.fromkeys(sources, "text"), sources, each="items")
    assert layout.shared_keys == {"order", "at"}
    document = b'{"order": {"id": 7.0}, "x": 1, "at": "now", "items": [{"n": 1}, {}, { }, [5], "x", {"n": {"m": []} }]}'
    shared = b'"$":{"order":{"id": 7.0},"at":"now"}}'
    assert documents_of(parts_of(layout, document)) == [
        b'{"n": 1,' + shared,
        b"{" + shared,
        b"{ " + shared,
        b"[5]",
        b'"x"',
        b'{"n": {"m": []} ,' + shared,
    ]
    nothing = documents_of(parts_of(layout, b'{"items": [{"n": 1}]}'))
    assert nothing == [b'{"n": 1,"$":{}}']


def test_the_keys_that_elements_share_are_those_of_every_table_and_of_the_route() -> None:
    other = small_layout({"a": "text"}, {"a": key_source("$.y[0]")})
    layout = small_layout({"a": "text"}, {"a": key_source("$.x")}, each="items", route_key="$.kind.name")
    assert replace(layout, routes={"o": other}).shared_keys == {"x", "y", "kind"}
    assert small_layout({"a": "text"}, {"a": key_source("x")}, each="items").shared_keys == frozenset()
    assert small_layout({"a": "text"}, {"a": key_source("$.x")}, route_key="$.k").shared_keys == frozenset()
