"""Arrays and pretty-printed documents: every document is read, and ambiguous files are refused."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors.exceptions import Terminal
from tasks.files.formats import read_buffer
from tasks.files.formats.ndjson import read_lines
from tests.support.source_files import block_sizes, fields_of, fill_from


def read(data: bytes, size: int = 1 << 20, scanned: int = 1 << 20, rows: int = 1 << 16) -> list[bytes]:
    """Read the documents and check that their numbers have no gap."""
    with block_sizes(size, scanned, rows):
        found = fields_of(read_lines(fill_from(data, 5), b"f", "x.json"))
    assert list(found) == list(range(1, len(found) + 1))
    return [fields[b"f"] for fields in found.values()]


a_text = st.text(st.sampled_from(list('ab{}[],:"\\ \nü\x1e')), max_size=8)
a_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | a_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(a_text, inner, max_size=3),
    max_leaves=6,
)
a_document = st.dictionaries(a_text, a_value, max_size=4)
a_style = st.fixed_dictionaries({"indent": st.none() | st.integers(0, 4), "ensure_ascii": st.booleans()})


@given(
    st.lists(a_document, max_size=6), a_style, st.sampled_from(["", " ", "\n", "\r\n  "]), st.booleans(),
    st.integers(3, 60), st.integers(1, 9), st.integers(1, 4),
)  # fmt: skip
def test_every_element_of_an_array_is_read(
    documents: list[Any], style: dict[str, Any], room: str, marked: bool, size: int, scanned: int, most: int
) -> None:
    whole = room + json.dumps(documents, **style) + room
    apart = f"{room}[{room}" + f"{room},{room}".join(json.dumps(one, **style) for one in documents) + f"{room}]{room}"
    for text in (whole, apart):
        assert [
            json.loads(one) for one in read(b"\xef\xbb\xbf" * marked + text.encode(), size, scanned, most)
        ] == documents


@given(
    st.lists(a_document.filter(bool), min_size=1, max_size=6), st.integers(0, 4), st.booleans(),
    st.sampled_from(["\n", "\r\n", "\n\n  \t\n", " \n"]), st.integers(3, 60), st.integers(1, 9), st.integers(1, 4),
)  # fmt: skip
def test_every_pretty_printed_document_is_read(
    documents: list[Any], indent: int, ascii: bool, end: str, size: int, scanned: int, most: int
) -> None:
    text = end.join(json.dumps(one, indent=indent, ensure_ascii=ascii) for one in documents) + end
    for spelled in (text, end + text.rstrip()):
        assert [json.loads(one) for one in read(spelled.encode(), size, scanned, most)] == documents


@given(
    st.dictionaries(a_text.filter("features".__ne__), a_value, max_size=3),
    st.lists(a_document, min_size=1, max_size=5),
    st.sampled_from(["\n", "\r\n"]), st.integers(3, 60), st.integers(1, 9),
)  # fmt: skip
def test_a_document_with_one_element_of_its_array_per_line_is_one_document(
    members: dict[str, Any], elements: list[Any], end: str, size: int, scanned: int
) -> None:
    """As the U.S. Geological Survey writes GeoJSON: the first element is on the first line."""
    head = json.dumps(members | {"features": []}).removesuffix("]}")
    text = head + f",{end}".join(map(json.dumps, elements)) + f"],{end}" + '"bbox": [1, 2]}' + end
    (found,) = read(text.encode(), size, scanned)
    assert json.loads(found) == members | {"features": elements, "bbox": [1, 2]}


def test_a_first_line_that_was_cut_does_not_swallow_the_lines_after_it() -> None:
    assert read(b'{"a": 1,\n{"a": 2}\n') == [b'{"a": 1,', b'{"a": 2}']


def test_elements_that_are_invalid_or_not_objects_are_passed_on_one_by_one() -> None:
    assert read(b'[{"a":1}, null, "x,]", {"a" 2}, [1,{}], 5.10]') == [
        b'{"a":1}', b"null", b'"x,]"', b'{"a" 2}', b"[1,{}]", b"5.10",
    ]  # fmt: skip
    assert read(b'{\n"a":1}\n{"a" 2}\n{\n}') == [b'{\n"a":1}', b'{"a" 2}', b"{\n}"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1,\n{"b":2}\n',
        b'{"a": "x\n{"b":2}\n',
        b'{"a": 1}}\n{"b":2}\n',
        b'{"a": 1} x\n{"b":2}\n',
        b'[1,2]\n{"b":2}\n',
        b'[2026-11-26] started\n{"b":2}\n',
        b'x\n{\n"b":2}\n',
        b'{"b":2}\n{\n"a": 1\n}\n',
        b"{",
        b"[",
    ],
)
@pytest.mark.parametrize("size", [3, 1000])
def test_a_broken_first_line_does_not_change_the_shape(data: bytes, size: int) -> None:
    assert read(data, size) == data.splitlines()


def test_an_empty_array_has_no_rows() -> None:
    assert read(b"[]") == read(b" [ \n ] \n") == []


ALONE = "one JSON document per line, an array of documents, or documents that each begin on their own line, found "
REFUSED = {
    b'{"a":"secret"}{"a":2}\n': ALONE + "several documents in the first line; nothing was loaded; convert",
    b'{"a":"secret"} {"a":2}': ALONE + "several documents in the first line",
    b'{"a":"secret"},\n{"a":2},\n': ALONE + "a comma after the first document outside an array",
    b'\x1e{"a":"secret"}\n\x1e{"a":2}\n': ALONE + r"JSON text sequences of RFC 7464 \(byte 0x1e before each\)",
    b'[{"a":"secret"},]': "document 2: expected a document, found an empty element",
    b'[{"a":1},,{"a":"secret"}]': "document 2: expected a document, found an empty element",
    b'[{"a":"secret"}': "document 2: expected the end of the array, found the end of the file"
    "|document 1: expected the end of the array, found the end of the file",
    b'[{"a":"secret"}]\n[{"a":2}]': "document 1: expected the end of the file after the array, found more text",
    b'[{"a":"secret"}}': "document 1: expected the end of the array, found another bracket",
    b'{\n"a":1}{\n"a":"secret"}': "document 2: expected a line end before it, found another document on the same line",
    b'{\n"a":1},\n{\n"a":"secret"}': "document [12]: expected only line ends between documents, found a comma",
    b'{\n"a":1}\nsecret\n{\n"a":2}': "document 2: expected a line end before it, found other text",
    b'{\n"a":1}\n{\n"a":"secret"': "document 2: expected the end of the document, found the end of the file",
    '{"a":"secret"}\n'.encode("utf-16"): "expected UTF-8, found UTF-16; nothing was loaded; convert the file",
    '{"a":"secret"}\n'.encode("utf-16-le"): "expected UTF-8, found UTF-16LE",
    '{"a":"secret"}\n'.encode("utf-16-be"): "expected UTF-8, found UTF-16BE",
    '{"a":"secret"}\n'.encode("utf-32"): "expected UTF-8, found UTF-32",
}


@pytest.mark.parametrize("data", REFUSED)
@pytest.mark.parametrize("size", [3, 7, 1000])
def test_an_ambiguous_file_is_refused_without_quoting_it(data: bytes, size: int) -> None:
    with pytest.raises(Terminal, match=f"^backfill: x.json.*({REFUSED[data]})") as refused:
        read(data, size)
    assert "secret" not in str(refused.value)


def test_an_element_that_is_too_long_is_refused_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_buffer, "LONGEST_BYTES", 40)
    long = b'{"a":"%s"}' % (b"x" * 60)
    for data in (b'[\n{"a":1},' + long + b"]", b'{\n"a":1}\n' + long + b"\n"):
        with pytest.raises(
            Terminal,
            match=r"x\.json, document 2: expected its end within 40 bytes, found no end; .*; check whether a br",
        ):
            read(data, 4)


WRITE: dict[str, Callable[[int], bytes]] = {
    "array": lambda n: b"[" + b",\n".join(b'{"n": %d, "text": "%s"}' % (i, b"x" * 900) for i in range(n)) + b"]",
    "objects": lambda n: b"".join(b'{\n  "n": %d,\n  "text": "%s"\n}\n' % (i, b"x" * 900) for i in range(n)),
}


@pytest.mark.parametrize("form", WRITE)
def test_a_large_file_is_read_quickly_in_bounded_memory(form: str) -> None:
    data = WRITE[form](40_000)
    fill = fill_from(data)
    tracemalloc.start()
    try:
        count = sum(len(rows) for rows in read_lines(fill, b"f", "x.json"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 40_000
    assert peak < 32 << 20  # of 37 MB
    began = time.thread_time()
    assert sum(len(rows) for rows in read_lines(fill_from(data), b"f", "x.json")) == 40_000
    assert time.thread_time() - began < 5  # of the processor
