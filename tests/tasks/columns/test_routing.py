"""Rows of several tables: a value chooses the table, and what has none is a fault or goes to the mapping's table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pyarrow as pa
import pytest

from infra.mapping.column_source import ColumnSource, key_source
from infra.mapping.stream_mapping import StreamMapping
from tasks.columns.decode import Fault, TimeWindow
from tasks.columns.encoded_rows import encode_parts
from tasks.columns.entries import EntryColumns
from tasks.columns.parts import Parts, take_apart
from tasks.columns.routing import rows_by_table
from tasks.columns.row_layout import RowLayout, bind
from tests.support.decoded_entries import ANY_TIME, TIME_US, groups_of
from tests.support.small_layouts import column, table

COLUMNS = (column("n", "integer", nullable=False), column("at", "timestamp with time zone"))


def named(name: str, **changes: Any) -> Any:
    return table(*COLUMNS, name=name, keys=(("n",),), time="at", **changes)


def routed(*values: str, default: bool = False, **options: Any) -> RowLayout:
    """Rows whose `kind` is one of these values go to the table of that name; others to `rest`, if there is one."""
    mapping = StreamMapping(
        name="s",
        table="rest" if default else None,
        columns={"at": key_source("at")},
        route_key="kind",
        routes={value: value for value in values},
        **options,
    )
    layout = bind(mapping, named("rest" if default else values[0]))
    one = replace(mapping, route_key=None, routes={})
    return layout.routed({value: bind(replace(one, table=value), named(value)) for value in values})


def flat(n: str, kind: str | None, at: int | None = None) -> list[bytes]:
    fields = [b"n", n.encode()]
    fields += [] if kind is None else [b"kind", kind.encode()]
    return fields if at is None else [*fields, b"at", b"%d" % (TIME_US + at)]


def of(layout: RowLayout, entries: list[list[bytes]], window: TimeWindow = ANY_TIME, **parts: Any) -> Any:
    return rows_by_table(Parts(groups_of(entries), **parts), layout, window)


def test_without_a_route_all_rows_go_to_the_table_of_the_layout() -> None:
    layout = bind(StreamMapping(name="s", table="rest"), named("rest"))
    parts = Parts(groups_of([flat("1", None), flat("2", "a")]))
    ((rows,), encoded) = rows_by_table(parts, layout, ANY_TIME)
    assert (rows.layout, rows.encoded) == (layout, encoded)
    assert encoded.rows.to_pylist() == encode_parts(parts, layout, ANY_TIME).rows.to_pylist()


def test_each_row_goes_to_the_table_of_its_value_with_its_index_in_the_batch() -> None:
    entries = [flat("1", "b", 1), flat("2", "a", 2), flat("3", "b", 3), flat("2", "a", 2), flat("9", "a", 4)]
    tables, whole = of(routed("a", "b", "c"), entries)
    assert [rows.layout.table.name for rows in tables] == ["a", "b"]
    assert [rows.encoded.row_entry.tolist() for rows in tables] == [[1, 4], [0, 2]]
    assert [list(rows.encoded.repeats) for rows in tables] == [[(0, 3)], []]
    assert [rows.encoded.unique for rows in tables] == [2, 2]
    alone = encode_parts(Parts(groups_of([entries[0], entries[2]])), tables[1].layout, ANY_TIME)
    assert tables[1].encoded.rows.to_pylist() == alone.rows.to_pylist()
    assert (len(whole.rows), list(whole.faults)) == (0, [])
    assert sorted(whole.times.tolist()) == [TIME_US + n for n in (1, 2, 2, 3, 4)]


def test_a_value_without_a_table_is_a_fault_that_names_the_first_tables() -> None:
    entries = [flat("1", "x" * 70), flat("2", "a"), flat("3", None), [b"kind", b"\xff", b"n", b"4"]]
    tables, whole = of(routed("a"), entries)
    assert [rows.encoded.row_entry.tolist() for rows in tables] == [[1]]
    found = {fault.entry: fault for fault in whole.faults}
    ids = [i for group in groups_of(entries) for i in group.ids.to_pylist()]
    reasons = {ids[entry]: (fault.field, fault.reason) for entry, fault in found.items()}
    assert reasons == {
        b"1-0": ("kind", f"expected a value with a table ('a'), found {'x' * 60!r}"),
        b"3-0": ("kind", "expected a value with a table ('a'), found none"),
        b"4-0": ("kind", "expected a value with a table ('a'), found none"),
    }
    for values, listed in (("abcde", "'a', 'b', 'c', 'd', 'e'"), ("abcdef", "'a', 'b', 'c', 'd', 'e' …")):
        _, whole = of(routed(*values), [flat("1", "x")])
        assert list(whole.faults) == [Fault(0, "kind", f"expected a value with a table ({listed}), found 'x'")]


def test_other_values_go_to_the_table_of_the_mapping_if_it_has_one() -> None:
    entries = [flat("1", "x"), flat("2", "a"), flat("3", None)]
    tables, whole = of(routed("a", default=True), entries)
    assert [rows.layout.table.name for rows in tables] == ["a", "rest"]
    ids = [i for group in groups_of(entries) for i in group.ids.to_pylist()]
    found = [sorted(ids[entry] for entry in rows.encoded.row_entry) for rows in tables]
    assert found == [[b"2-0"], [b"1-0", b"3-0"]]
    assert list(whole.faults) == []
    assert (tables[1].layout.routes, tables[1].layout.mapping.route_key) == ({}, None)


def test_faults_of_every_table_have_the_index_in_the_batch() -> None:
    entries = [flat("1", "b"), flat("x", "a"), flat("2", "a"), flat("y", "z"), flat("", "b"), flat("0", "a", 9)]
    entries = [[*entry, *([] if b"at" in entry else [b"at", b"%d" % TIME_US])] for entry in entries]
    entries[1][5] = b"soon"
    window = TimeWindow(TIME_US - 1, TIME_US + 1)
    tables, whole = of(routed("a", "b"), entries, window)
    assert sorted((fault.entry, fault.field) for fault in whole.faults) == [(1, "at"), (3, "kind"), (5, "at")]
    assert [rows.encoded.row_entry.tolist() for rows in tables] == [[2], [0, 4]]


def test_what_could_not_be_taken_apart_is_a_fault_with_its_own_reason() -> None:
    """Its document is null, so it has no value to route by: the fault of the part stays."""
    document = [b"data", b'{"n": 1, "kind": "a"}']
    ids = pa.array([b"1-0", b"2-0", b"3-0"], pa.binary())
    values = pa.array([document[1], None, document[1].replace(b"1", b"2")], pa.binary())
    group = EntryColumns(ids, (b"data",), (values,))
    layout = routed("a", default=True, layout="json")
    tables, whole = rows_by_table(Parts([group], faults={1: ("data", "the reason")}), layout, ANY_TIME)
    assert list(whole.faults) == [Fault(1, "data", "the reason")]
    assert [rows.encoded.row_entry.tolist() for rows in tables] == [[0, 2]]


def test_the_value_is_read_from_documents_and_flat_entries_and_paths_of_any_group() -> None:
    mapping = routed("a", "7", "true")
    entries = [flat("1", "a"), [b"data", b'{"n": 2, "kind": "a"}'], flat("3", "7"), [b"data", b'{"n": 4, "kind": 7}']]
    entries += [[b"data", b'{"n": 5, "kind": true}']]
    tables, whole = of(mapping, entries)
    ids = [i for group in groups_of(entries) for i in group.ids.to_pylist()]
    found = {rows.layout.table.name: sorted(ids[entry] for entry in rows.encoded.row_entry) for rows in tables}
    assert found == {"a": [b"1-0", b"2-0"], "7": [b"3-0", b"4-0"], "true": [b"5-0"]}
    assert list(whole.faults) == []


def test_the_key_of_the_route_is_no_unknown_key() -> None:
    entries = [flat("1", "a"), [*flat("2", "a"), b"more", b"x"], flat("3", "b"), flat("4", None)]
    tables, whole = of(routed("a", default=True, unknown="refuse"), entries)
    ids = [i for group in groups_of(entries) for i in group.ids.to_pylist()]
    (fault,) = whole.faults
    assert (ids[fault.entry], fault.field, fault.reason) == (
        b"2-0",
        "",
        'expected no key that no column reads (unknown = "refuse"), found {"more":"x"}',
    )
    assert [[ids[entry] for entry in rows.encoded.row_entry] for rows in tables] == [[b"1-0"], [b"3-0", b"4-0"]]


def test_no_entries_have_no_tables() -> None:
    tables, whole = rows_by_table(Parts([]), routed("a", "b"), ANY_TIME)
    assert (tables, list(whole.faults), whole.times.tolist()) == ((), [], [])


def test_rows_of_a_later_group_keep_their_index() -> None:
    kinds = "abbabaab"
    entries = [[*flat(str(n), kind), *([b"more", b""] if n >= 3 else [])] for n, kind in enumerate(kinds)]
    assert [len(group) for group in groups_of(entries)] == [3, 5]
    tables, whole = of(routed("a", "b"), entries)
    for rows in tables:
        numbers = [n for n, kind in enumerate(kinds) if kind == rows.layout.table.name]
        assert rows.encoded.row_entry.tolist() == numbers
        assert [int.from_bytes(row[6:10], "big") for row in rows.encoded.rows.to_pylist()] == numbers
    assert list(whole.faults) == []


@pytest.mark.parametrize("elements", [False, True], ids=["entries", "stored elements"])
@pytest.mark.parametrize("unknown", ["ignore", "refuse"])
def test_what_another_table_reads_of_the_whole_document_is_neither_unmapped_nor_unknown(
    unknown: Literal["ignore", "refuse"], elements: bool
) -> None:
    """Elements carry the keys that columns of any table read of their document, here `tenant`, which only `a` has."""
    rest = {"rest": ColumnSource(whole="unmapped")} if unknown == "ignore" else {}
    mapping = StreamMapping(name="s", route_key="kind", routes={"a": "a", "b": "b"}, each="items", unknown=unknown)
    one = replace(mapping, route_key=None, routes={})
    with_tenant = table(*COLUMNS[:1], column("tenant", "text"), name="a", keys=(("n",),))
    without = table(*COLUMNS[:1], *([column("rest", "jsonb")] if rest else []), name="b", keys=(("n",),))
    layout = bind(mapping, with_tenant).routed(
        {
            "a": bind(replace(one, table="a", columns={"tenant": key_source("$.tenant")}), with_tenant),
            "b": bind(replace(one, table="b", columns=rest), without),
        }
    )
    document = b'{"tenant":"t","items":[{"kind":"a","n":1},{"kind":"b","n":2}]}'
    parts = take_apart(groups_of([[b"data", document]]), layout)
    if elements:  # as a redrive reads them from the quarantine
        stored = [[b"data", one] for group in parts.groups for one in group.column(b"data").to_pylist()]
        layout, parts = layout.of_elements(), Parts(groups_of(stored))
    tables, whole = rows_by_table(parts, layout, ANY_TIME)
    assert whole.faults == []
    rows = {rows.layout.table.name: rows.encoded.rows.to_pylist() for rows in tables}
    assert set(rows) == {"a", "b"}
    if rest:
        assert rows["b"][0].endswith(b'{"kind":"b"}')
