"""The fields of flat entries as JSON objects, and values below fields that hold JSON."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from infra.mapping.column_source import ColumnSource, key_source
from tasks.columns.entries import EntryColumns
from tasks.columns.extract import extract, split_by_shape
from tasks.columns.extracted_values import ExtractedValues
from tasks.columns.flat_documents import as_documents
from tests.support.decoded_entries import groups_of
from tests.support.small_layouts import as_read, layout_of

WHOLE, UNMAPPED = ColumnSource(whole="document"), ColumnSource(whole="unmapped")


def group_of(**fields: list[bytes | None]) -> EntryColumns:
    count = len(next(iter(fields.values())))
    ids = pa.array([b"%d-0" % n for n in range(count)], pa.binary())
    values = tuple(pa.array(column, pa.binary()) for column in fields.values())
    return EntryColumns(ids, tuple(name.encode() for name in fields), values)


@pytest.mark.parametrize(
    ("value", "member"),
    [
        (b"5", b"5"),
        (b"1.50", b"1.50"),
        (b"true", b"true"),
        (b"null", b"null"),
        (b'{"a": [1.0]}', b'{"a": [1.0]}'),
        (b'"x"', b'"x"'),
        (b"nan", b'"NaN"'),
        (b"inf", b'"Infinity"'),
        (b"-inf", b'"-Infinity"'),
        (b"NaN", b'"NaN"'),
        (b"x", b'"x"'),
        (b"", b'""'),
        (b"1 2", b'"1 2"'),
        (b"[" * 100_000, b'"' + b"[" * 100_000 + b'"'),
    ],
)
def test_a_value_of_a_file_is_json_if_it_can_be_and_a_string_otherwise(value: bytes, member: bytes) -> None:
    faults: dict[int, tuple[str, str]] = {}
    group = group_of(a=[value], b=[value])
    (document,) = as_documents(group, frozenset(["b"]), frozenset([b"a", b"c"]), faults).to_pylist()
    assert document == b'{"a":' + member + b"}"
    assert faults == {}


def test_without_json_keys_every_value_is_a_string_and_absent_ones_are_left_out() -> None:
    faults: dict[int, tuple[str, str]] = {}
    found = as_documents(group_of(a=[b"5", None], b=["é".encode(), b""]), frozenset(), frozenset([b"b"]), faults)
    assert found.to_pylist() == ['{"a":"5","b":"é"}'.encode(), b'{"b":""}']
    assert as_documents(group_of(a=[None]), frozenset(), frozenset([b"a"]), faults).to_pylist() == [b"{}"]
    assert faults == {}


def test_bytes_that_are_not_utf8_are_a_fault_of_their_field() -> None:
    faults = {2: ("earlier", "reason")}
    long = b"x" * 70
    groups = groups_of([[b"a", b"ok", long, b"b\xfe"], [b"a", b"\xff", long, b"ok"], [b"a", b"\xff", long, b"ok"]])
    found = as_documents(groups[0], frozenset(), frozenset([b"a"]), faults)
    assert found.to_pylist() == [None, None, None]
    assert faults == {
        0: ("x" * 60, "expected UTF-8, found byte 0xfe at 1"),
        1: ("a", "expected UTF-8, found byte 0xff at 0"),
        2: ("earlier", "reason"),
    }


def extracted(entries: list[list[bytes]], types: dict[str, str], **options: Any) -> ExtractedValues:
    layout = layout_of(types, **options)
    (group,) = groups_of(entries)
    ((shape, rows),) = split_by_shape(group, layout)
    assert rows.tolist() == list(range(len(entries)))
    return extract(group, layout, as_read(shape))


def test_the_whole_entry_and_what_no_column_reads_of_flat_fields() -> None:
    sources = {"d": WHOLE, "u": UNMAPPED, "t": key_source("n.a"), "q": key_source('"k"')}
    types = {"d": "jsonb", "u": "jsonb", "t": "text", "q": "text"}
    found = extracted([[b"n", b'{"a": 7}', b"k", b"1", b"x", b"2"]], types, sources=sources)
    assert found.documents is not None
    assert found.unmapped is not None
    assert found.documents.to_pylist() == [b'{"n":"{\\"a\\": 7}","k":"1","x":"2"}']
    assert found.unmapped.to_pylist() == [b'{"x":"2"}']
    assert (found.texts["n.a"].to_pylist(), found.texts['"k"'].to_pylist()) == (["7"], ["1"])


def test_the_whole_document_and_what_no_column_reads_of_documents() -> None:
    sources = {"d": WHOLE, "u": UNMAPPED, "t": key_source("n.a")}
    types = {"d": "jsonb", "u": "jsonb", "t": "text"}
    texts = [b'{"n": {"a": 7}, "x": [2.0], "y": null}', b"{", b"{}", b'{"n": 1, "\xff": 1}']
    found = extracted([[b"data", text] for text in texts], types, sources=sources, layout="json")
    assert found.documents is not None
    assert found.unmapped is not None
    assert found.documents.to_pylist() == texts
    assert found.unmapped.to_pylist() == [b'{"x":[2.0],"y":null}', None, b"{}", None]
    assert list(found.faults) == [1, 3]


def test_nothing_more_is_made_than_the_columns_read() -> None:
    for layout in ("flat", "json"):
        found = extracted([[b"data", b'{"a": 1}', b"a", b"1"]], {"a": "text"}, layout=layout)
        assert (found.documents, found.unmapped) == (None, None)
        found = extracted([[b"data", b'{"a": 1}', b"a", b"1"]], {"a": "text"}, layout=layout, unknown="refuse")
        assert found.documents is None
        assert found.unmapped is not None
        assert found.unmapped.to_pylist() == [b"{}" if layout == "json" else b'{"data":"{\\"a\\": 1}"}']


@pytest.mark.parametrize("layout", ["flat", "json"])
def test_the_key_of_a_route_is_kept_among_the_unmapped_ones_but_is_not_unknown(layout: str) -> None:
    """It is data that no column has; only a mapping that refuses unknown keys must not refuse it."""
    entry = [b"kind", b"k", b"a", b"1"] if layout == "flat" else [b"data", b'{"kind":"k","a":1}']
    options: dict[str, Any] = {"layout": layout, "route_key": "kind"}
    kept = extracted([entry], {"a": "text", "u": "jsonb"}, sources={"u": UNMAPPED}, **options)
    refused = extracted([entry], {"a": "text"}, unknown="refuse", **options)
    assert kept.unmapped is not None
    assert refused.unmapped is not None
    assert (kept.unmapped.to_pylist(), refused.unmapped.to_pylist()) == ([b'{"kind":"k"}'], [b"{}"])


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b'{"b": [1, "x"]}', "x"),
        (b'{"b": [1, 2.50]}', "2.50"),
        (b'{"b": [1]}', None),
        (b'{"b": [1, null]}', None),
        (b"5", None),
        (b"", None),
        (b"no JSON", None),
        (b'{"b": [1, "\xff"]}', None),
        (b'{"b": [1, {}]}', None),
    ],
)
def test_a_path_may_begin_in_a_flat_field_that_holds_json(value: bytes, found: str | None) -> None:
    entries = [[b"a", value], [b"a", b'{"b": [0, "good"]}']]
    result = extracted(entries, {"c": "text"}, sources={"c": key_source("a.b[1]")}, layout="flat")
    assert result.texts["a.b[1]"].to_pylist() == [found, "good"]
    assert result.faults == {}


def test_json_below_a_flat_field_is_the_very_text_that_came() -> None:
    source = {"c": key_source("a.b")}
    result = extracted([[b"a", b'{"b": {"n": 1.0}}']], {"c": "jsonb"}, sources=source, layout="flat")
    assert result.json["a.b"].to_pylist() == [b'{"n": 1.0}']
    many = [[b"a", b'{"b": 5}']] * 300
    assert extracted(many, {"c": "jsonb"}, sources=source, layout="flat").json["a.b"].to_pylist() == [b"5"] * 300
    both = [[b"a", b'{"b": 1}', b"a.b", b"2"]]
    assert extracted(both, {"c": "jsonb"}, sources=source, layout="flat").json["a.b"].to_pylist() == [b"2"]


def test_a_path_may_begin_in_a_field_whose_name_is_in_quotes() -> None:
    entry = [b"a.b", b'{"c": "deep"}']
    result = extracted([entry], {"c": "text"}, sources={"c": key_source('"a.b".c')}, layout="flat")
    assert result.texts['"a.b".c'].to_pylist() == ["deep"]


def test_texts_that_are_not_utf8_are_null_with_a_fault_and_the_first_fault_stays() -> None:
    entries = [[b"a", b"x", b"b", b"y"], [b"a", b"\xff", b"b", b"\xfe"], [b"a", b"z", b"b", b"1\xfe"]]
    result = extracted(entries, {"a": "text", "b": "text"}, layout="flat")
    assert result.texts["a"].to_pylist() == ["x", None, "z"]
    assert result.texts["b"].to_pylist() == ["y", None, None]
    assert result.faults == {
        1: ("a", "expected UTF-8, found byte 0xff at 0"),
        2: ("b", "expected UTF-8, found byte 0xfe at 1"),
    }


def test_the_shape_of_an_entry_is_that_of_its_mapping_or_of_its_fields() -> None:
    mixed = [[b"data", b"{}"], [b"a", b"1"], [b"data", b"{}", b"a", b"2"], [b"data", b"{}", b"z", b""]]
    (odd,) = [EntryColumns(pa.array([b"1-0"] * 4), None, (pa.array(mixed, pa.list_(pa.binary())),))]
    shapes = split_by_shape(odd, layout_of({"a": "text"}))
    assert [(shape, rows.tolist()) for shape, rows in shapes] == [("json", [0, 3]), ("flat", [1, 2])]
    for layout in ("json", "flat"):
        shapes = split_by_shape(odd, layout_of({"a": "text"}, layout=layout))
        assert [(shape, rows.tolist()) for shape, rows in shapes] == [(layout, [0, 1, 2, 3])]
    same = EntryColumns(odd.ids[:2], None, (odd.values[0][1:3],))
    assert [(shape, rows.tolist()) for shape, rows in split_by_shape(same, layout_of({"a": "text"}))] == [
        ("flat", [0, 1])
    ]
