"""Where the documents of a sample are, and how they are encoded."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
import pytest

from tasks.columns.entries import page_to_columns
from tasks.mapping.sample_documents import Digits, SampledDocuments, _plain, read_documents

DOCUMENT = {"id": 7, "x": 1.50, "tags": ["a"], "no": None, "yes": True}
TEXT = b'{"id": 7, "x": 1.50, "tags": ["a"], "no": null, "yes": true}'


def read(*entries: dict[bytes, bytes]) -> SampledDocuments:
    page = [(b"1-%d" % n, [part for pair in entry.items() for part in pair]) for n, entry in enumerate(entries)]
    return read_documents(page_to_columns(page))


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


ENCODED: dict[tuple[str, ...], Callable[[], bytes]] = {
    (): lambda: TEXT,
    ("gzip",): lambda: gzip.compress(TEXT),
    ("zstd",): lambda: zstd(TEXT),
    ("base64",): lambda: b64encode(TEXT),
    ("base64", "gzip"): lambda: b64encode(gzip.compress(TEXT)),
    ("gzip", "base64"): lambda: gzip.compress(b64encode(TEXT)),
    ("msgpack",): lambda: msgspec.msgpack.encode(DOCUMENT),
    ("base64", "zstd", "msgpack"): lambda: b64encode(zstd(msgspec.msgpack.encode(DOCUMENT))),
}


@pytest.mark.parametrize("encodings", ENCODED, ids=str)
def test_the_encodings_of_a_document_are_found(encodings: tuple[str, ...]) -> None:
    found = read(*[{b"body": ENCODED[encodings]()}] * 3)
    assert (found.layout, found.field, found.encodings, found.unreadable) == ("json", "body", encodings, 0)
    document = dict(found.documents[0])
    if "msgpack" not in encodings:
        assert document["x"] == "1.50", "every digit is kept"
    assert float(document.pop("x")) == 1.5
    assert document == {"id": "7", "tags": ["a"], "no": None, "yes": True}
    assert isinstance(document["id"], Digits)


def test_the_document_is_next_to_few_other_fields() -> None:
    assert read({b"type": b"x", b"payload": TEXT}).field == "payload"
    many: dict[bytes, bytes] = {b"a": b"1", b"b": b"2", b"c": b"3", b"meta": TEXT}
    assert read(many).layout == "flat"


def test_most_entries_decide_and_the_others_are_counted() -> None:
    found = read(*[{b"data": TEXT}] * 3, {b"data": b"{"}, {b"other": b""})
    assert (found.layout, len(found.documents), found.unreadable) == ("json", 3, 2)
    assert read({b"data": TEXT}, {b"data": b"{"}).layout == "flat"


NO_DOCUMENTS = [
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16-be"),
    b"----" + b64encode(TEXT),
    b"",
    b"7",
    b"[1]",
    b"null",
    b"\xff\xfe",
    b"\x1f\x8b broken",
    b"abcdefgh",
    b"\x93abc",
]


@pytest.mark.parametrize("value", NO_DOCUMENTS)
def test_what_is_no_document_is_a_flat_field(value: bytes) -> None:
    found = read({b"data": value})
    assert found.unreadable == 0
    assert (found.layout, found.documents[0]["data"]) == ("flat", value.decode(errors="replace"))


def test_a_field_that_an_entry_lacks_is_absent() -> None:
    found: list[Any] = list(read({b"a": b"1"}, {b"b": b"2"}).documents)
    assert sorted(map(json.dumps, found)) == ['{"a": "1"}', '{"b": "2"}']


def nested(times: int) -> bytes:
    data = TEXT
    for _ in range(times):
        data = gzip.compress(data)
    return data


@pytest.mark.parametrize(("times", "layout"), [(3, "json"), (4, "flat")])
def test_at_most_three_encodings_are_looked_for(times: int, layout: str) -> None:
    found = read({b"data": nested(times)})
    assert (found.layout, found.encodings) == (layout, ("gzip",) * times if layout == "json" else ())


def test_fields_up_to_three_may_be_around_the_document() -> None:
    entry: dict[bytes, bytes] = {b"a": b"1", b"b": b"2", b"meta": TEXT}
    assert read(entry).field == "meta"
    assert (read(entry).fields, read(entry).unreadable) == (["a", "b", "meta"], 0)
    assert read({b"": TEXT}).layout == "flat"
    assert read({b"\xff": TEXT}).layout == "flat"


def test_an_empty_map_of_messagepack_is_a_document() -> None:
    found = read({b"data": msgspec.msgpack.encode({})})
    assert (found.layout, found.encodings, found.documents) == ("json", ("msgpack",), [{}])


def test_an_entry_with_other_fields_than_most_has_them_all() -> None:
    page = [(b"1-%d" % n, [b"data", TEXT]) for n in range(200)]
    groups = page_to_columns([*page, (b"2-0", [b"data", TEXT, b"a", b"1"]), (b"2-1", [b"b", b"2"])])
    assert None in [group.keys for group in groups]
    found = read_documents(groups)
    assert (found.fields, len(found.documents), found.unreadable) == (["data", "a", "b"], 201, 1)


def test_a_field_that_is_named_is_the_only_one_with_documents() -> None:
    groups = page_to_columns([(b"1-0", [b"a", TEXT, b"b", TEXT, b"c", b"1", b"d", b"2"])])
    assert read_documents(groups, "b").field == "b"
    assert read_documents(groups, "c").layout == "flat"
    assert read_documents(groups, "x").layout == "flat"
    assert read_documents(groups, "b", flat=True).layout == "flat"
    assert read_documents(groups).layout == "flat"


def test_more_than_half_of_the_entries_must_have_a_document_of_the_same_encoding() -> None:
    zipped = gzip.compress(TEXT)
    found = read(*[{b"data": zipped}] * 3, *[{b"data": TEXT}] * 2)
    assert (found.layout, found.encodings, found.unreadable) == ("json", ("gzip",), 2)
    assert read(*[{b"data": zipped}] * 2, *[{b"data": TEXT}] * 2).layout == "flat"
    found = read(*[{b"data": TEXT}] * 3, *[{b"data": zipped}] * 2)
    assert (found.layout, found.encodings, found.unreadable) == ("json", (), 2)
    assert read({b"data": b"{"}, {b"data": b"x"}, {b"data": TEXT}).layout == "flat"
    assert read({b"data": b"{"}, {b"data": TEXT}, {b"data": TEXT}).unreadable == 1
    broken = b64encode(b"\x1f\x8b broken!")
    assert read(*[{b"data": b64encode(TEXT)}] * 2, {b"data": broken}).unreadable == 1
    assert read(*[{b"data": b64encode(zipped)}] * 2, {b"data": broken}).unreadable == 1


def test_values_of_messagepack_are_what_json_would_have() -> None:
    moment = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    value = {"i": 7, "f": 1.5, "b": True, "n": None, "bin": b"ab\xff", "l": [1, "x", {"y": b"z"}], 5: {6: moment}}
    found = read({b"data": msgspec.msgpack.encode(value)}).documents[0]
    expected = {"i": "7", "f": "1.5", "b": True, "n": None, "bin": "ab\ufffd", "l": ["1", "x", {"y": "z"}]}
    assert found == expected | {"5": {"6": "2024-01-02T03:04:05+00:00"}}
    kinds = [type(found["i"]), type(found["f"]), type(found["l"][0]), type(found["l"][1])]
    assert kinds == [Digits, Digits, Digits, str]


def test_values_of_a_file_are_what_json_would_have() -> None:
    day = date(2024, 1, 2)
    uuid = UUID(int=5)
    row = {"t": time(3, 4), "d": day, "u": uuid, "x": Decimal("1.50"), "e": timedelta(hours=1), "l": (1, day)}
    assert _plain(row) == {
        "t": "03:04:00", "d": "2024-01-02", "u": str(uuid), "x": "1.50", "e": "1:00:00", "l": ["1", "2024-01-02"],
    }  # fmt: skip
    assert isinstance(_plain(Decimal("1.50")), Digits)
    assert not isinstance(_plain("1.50"), Digits)


@pytest.mark.parametrize("text", [b' {"a": NaN, "b": 1e400, "c": -0}', b'\n{"a": NaN, "b": 1e400, "c": -0}'])
def test_numbers_keep_their_spelling(text: bytes) -> None:
    assert read({b"data": text}).documents == [{"a": "NaN", "b": "1e400", "c": "-0"}]


@pytest.mark.parametrize("value", [b"{}}", b'{"a"}', b"{'a': 1}", b'{"a": ' + b"[" * 100_000, b'"{}"'])
def test_a_text_that_only_looks_like_an_object_is_no_document(value: bytes) -> None:
    assert read({b"data": value}).layout == "flat"
