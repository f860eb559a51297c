"""Pages of entries as groups of columns."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.columns.entries import EntryColumns, RawEntry, common_keys, concat_entries, page_to_columns
from tests.support.decoded_entries import entry

FIELD = st.sampled_from([b"a", b"b", b"", b"\xff", "né".encode()])
FIELDS = st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=4).map(
    lambda pairs: [x for pair in pairs for x in pair]
)
PAGE = st.lists(FIELDS, min_size=1, max_size=24)


def page_of(fields: Sequence[Sequence[bytes]], first: int = 1) -> list[RawEntry]:
    return [entry(i, *f) for i, f in enumerate(fields, first)]


def raws(groups: Sequence[EntryColumns]) -> list[tuple[str, list[bytes]]]:
    """Every entry of the groups, by id."""
    found = [group.raw(i) for group in groups for i in range(len(group))]
    return sorted(found, key=lambda raw: int(raw[0].partition("-")[0]))


def came(page: Sequence[RawEntry]) -> list[tuple[str, list[bytes]]]:
    return [(entry_id.decode(), list(fields)) for entry_id, fields in page]


def test_entries_of_one_shape_are_one_group_of_columns() -> None:
    page = page_of([[b"a", b"1", b"b", b"2"], [b"a", b"3", b"b", b"4"]])
    (group,) = page_to_columns(page)
    assert group.keys == (b"a", b"b")
    assert group.column(b"a").to_pylist() == [b"1", b"3"]
    assert group.column(b"b").to_pylist() == [b"2", b"4"]
    assert group.column(b"c").to_pylist() == [None, None]
    assert group.nbytes >= 4
    assert raws([group]) == came(page)


def test_each_shape_that_many_entries_have_is_a_group_and_the_rest_is_one_more() -> None:
    many = [[b"a", b"1"], [b"b", b"2"]] * 20
    page = page_of([[b"x", b""], *many, [b"a", b"4", b"b", b"5"]])
    one, two, odd = page_to_columns(page)
    assert (one.keys, two.keys, odd.keys) == ((b"a",), (b"b",), None)
    assert (one.column(b"a").to_pylist(), two.column(b"b").to_pylist()) == ([b"1"] * 20, [b"2"] * 20)
    assert odd.column(b"a").to_pylist() == [None, b"4"]
    assert odd.column(b"b").to_pylist() == [None, b"5"]
    assert raws([one, two, odd]) == came(page)


def test_however_many_shapes_there_are_the_groups_are_few() -> None:
    page = page_of([[b"%d" % i, b""] for i in range(100)])
    (odd,) = page_to_columns(page)
    assert raws([odd]) == came(page)
    shapes_of_ten = page_of([[b"%d" % (i % 10), b""] for i in range(100)])
    assert len(page_to_columns(shapes_of_ten)) == 1
    shapes_of_eight = page_of([[b"%d" % (i % 8), b""] for i in range(80)])
    assert len(page_to_columns(shapes_of_eight)) == 8
    shapes_of_nine = page_of([[b"%d" % (i % 9), b""] for i in range(90)])
    assert len(page_to_columns(shapes_of_nine)) == 1


def test_the_same_fields_in_another_order_are_the_same_fields() -> None:
    page = page_of([[b"a", b"1", b"b", b"2"], [b"b", b"4", b"a", b"3"]])
    groups = page_to_columns(page)
    assert [value for group in groups for value in group.column(b"a").to_pylist()] == [b"1", b"3"]
    assert raws(groups) == came(page)


def test_of_a_repeated_field_the_last_value_counts_in_every_shape() -> None:
    twice = [b"a", b"old", b"b", b"x", b"a", b"new"]
    (alone,) = page_to_columns(page_of([twice, twice]))
    assert alone.column(b"a").to_pylist() == [b"new", b"new"]
    assert alone.documents() == [{b"a": b"new", b"b": b"x"}] * 2
    _, odd = page_to_columns(page_of([*[[b"z", b""]] * 9, twice]))
    assert odd.keys is None
    assert odd.column(b"a").to_pylist() == [b"new"]
    assert odd.documents() == [{b"a": b"new", b"b": b"x"}]
    assert odd.raw(0) == ("10-0", twice)


def test_empty_names_and_values_are_names_and_values() -> None:
    (group,) = page_to_columns(page_of([[b"", b"", b"a", b""]]))
    assert group.column(b"").to_pylist() == [b""]
    assert group.column(b"a").to_pylist() == [b""]
    assert group.raw(0) == ("1-0", [b"", b"", b"a", b""])


def test_fields_that_look_uniform_end_to_end_are_not_taken_for_entries_of_one_shape() -> None:
    """End to end these read like four entries of the fields a and b."""
    page = page_of(
        [
            [b"a", b"1", b"b", b"2"],
            [b"a", b"3", b"b", b"4", b"a", b"5", b"b", b"6"],
            [b"a", b"7"],
            [b"b", b"8"],
        ]
    )
    groups = page_to_columns(page)
    assert raws(groups) == came(page)
    found = {i: v for g in groups for i, v in zip(g.ids.to_pylist(), g.column(b"a").to_pylist(), strict=True)}
    assert found == {b"1-0": b"1", b"2-0": b"5", b"3-0": b"7", b"4-0": None}


def test_values_that_equal_field_names_are_not_taken_for_them() -> None:
    page = page_of([[b"a", b"b", b"b", b"a"], [b"b", b"a", b"a", b"b"], [b"a", b"a", b"b", b"b"]])
    groups = page_to_columns(page)
    assert raws(groups) == came(page)
    found = {i: v for g in groups for i, v in zip(g.ids.to_pylist(), g.column(b"a").to_pylist(), strict=True)}
    assert found == {b"1-0": b"b", b"2-0": b"b", b"3-0": b"a"}


def test_a_value_that_equals_a_field_name_hides_no_other_field() -> None:
    page = page_of([[b"a", b"1", b"b", b"b"], [b"a", b"1", b"c", b"b"]])
    groups = page_to_columns(page)
    assert [group.keys for group in groups] == [(b"a", b"b"), (b"a", b"c")]
    assert raws(groups) == came(page)


def test_entries_without_fields_are_given_back_among_the_entries_of_other_shapes() -> None:
    for page in (page_of([[], []]), page_of([[b"a", b"1"], []])):
        groups = page_to_columns(page)
        assert groups[-1].keys is None
        assert raws(groups) == came(page)


@settings(max_examples=150)
@given(PAGE)
def test_whatever_came_is_given_back_and_every_column_is_what_a_dict_says(fields: list[list[bytes]]) -> None:
    page = page_of(fields)
    groups = page_to_columns(page)
    assert raws(groups) == came(page)
    for key in (b"a", b"", b"\xff"):
        found = {i: v for g in groups for i, v in zip(g.ids.to_pylist(), g.column(key).to_pylist(), strict=True)}
        assert found == {i: dict(zip(f[::2], f[1::2], strict=True)).get(key) for i, f in page}


@settings(max_examples=100)
@given(st.lists(PAGE, min_size=1, max_size=5))
def test_merged_pages_hold_every_entry_once_in_order_within_a_shape(pages: list[list[list[bytes]]]) -> None:
    raw_pages, first = [], 1
    for fields in pages:
        raw_pages.append(page_of(fields, first))
        first += len(fields)
    merged = concat_entries(page_to_columns(page) for page in raw_pages)
    assert raws(merged) == came([e for page in raw_pages for e in page])
    assert len({group.keys for group in merged}) == len(merged)
    for group in merged:
        numbers = [int(i.partition(b"-")[0]) for i in group.ids.to_pylist()]
        assert numbers == sorted(numbers)


def test_no_pages_are_no_groups() -> None:
    assert concat_entries([]) == []


def test_entries_with_the_same_names_in_the_same_order_have_them_in_common() -> None:
    same = [b"a", b"1", b"b", b"2", b"c", b"3"]
    for odd in (
        [b"a", b"1", b"c", b"2", b"b", b"3"],
        same[:4],
        [*same, b"d", b"4"],
        [b"a", b"1", b"b", b"2", b"d", b"3"],
    ):
        assert common_keys([same] * 300) == (b"a", b"b", b"c")
        assert common_keys([*[same] * 300, odd]) == ()
        assert common_keys([odd, *[same] * 300]) == ()


def test_a_group_alone_is_not_copied_and_the_field_that_a_row_lacks_is_left_out() -> None:
    group = EntryColumns(pa.array([b"1-0"]), (b"a", b"b"), (pa.array([b"1"]), pa.array([None], pa.binary())))
    assert concat_entries([[group], []])[0] is group
    assert group.raw(0) == ("1-0", [b"a", b"1"])
