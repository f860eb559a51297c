"""Where the documents of a sample are, and how they are encoded."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from tasks.columns.entries import page_to_columns
from tasks.mapping.sample_documents import Digits, SampledDocuments, read_documents

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


NO_DOCUMENTS = [b"", b"7", b"[1]", b"null", b"\xff\xfe", b"\x1f\x8b broken", b"abcdefgh", b"\x93abc"]


@pytest.mark.parametrize("value", NO_DOCUMENTS)
def test_what_is_no_document_is_a_flat_field(value: bytes) -> None:
    found = read({b"data": value})
    assert (found.layout, found.documents[0]["data"]) == ("flat", value.decode(errors="replace"))


def test_a_field_that_an_entry_lacks_is_absent() -> None:
    found: list[Any] = list(read({b"a": b"1"}, {b"b": b"2"}).documents)
    assert sorted(map(json.dumps, found)) == ['{"a": "1"}', '{"b": "2"}']
