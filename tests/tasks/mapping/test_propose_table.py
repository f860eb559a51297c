"""The table for a sample: names, time and key, and the array whose elements are the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from tasks.mapping.create_table import create_table
from tasks.mapping.leaves import Leaf, find_leaves
from tasks.mapping.propose_table import ProposedTable, column_names, propose_table, table_name
from tasks.mapping.sample_documents import read_documents
from tests.support.real_data import sample_events, weather
from tests.support.shop import orders
from tests.support.small_layouts import as_read
from tests.support.suggested import drained, flat_entries, json_entries, layout_of, suggested


def proposed(documents: list[Any], layout: str = "json", stream: bool = True) -> ProposedTable:
    read = read_documents(json_entries(documents)).documents
    return propose_table("orders", find_leaves(read), read, layout, stream)


def test_real_weather_has_its_natural_key_and_time(tmp_path: Path) -> None:
    found = suggested(flat_entries(weather(2_000)), name="w")
    assert found.table is not None
    assert (found.table.time, found.table.key) == ("time_hour", ("origin", "time_hour"))
    types = {column.name: column.type.sql for column in found.table.columns}
    assert types["origin"] == "text"
    assert {types[name] for name in ("temp", "dewp", "humid", "wind_speed")} == {"float8"}
    assert {types[name] for name in ("year", "month", "day", "hour")} == {"int8"}
    assert [column.name for column in found.table.columns if column.required] == ["origin", "time_hour"]
    assert found.toml == '[streams."w"]\ntable = "found"\nnull = ["NA"]'


def test_real_events_keep_their_nested_objects_whole_and_their_own_time(tmp_path: Path) -> None:
    documents = [json.loads(line) for line in sample_events().splitlines()]
    groups = json_entries(documents)
    found = suggested(groups)
    assert found.table is not None
    assert (found.table.time, found.table.key) == ("occurred_at", ("id", "occurred_at"))
    types = {column.name: column.type.sql for column in found.table.columns}
    assert (types["id"], types["subj"], types["obj"], types["subj_id"]) == ("uuid", "jsonb", "jsonb", "text")
    rows = drained(groups, layout_of(found, tmp_path))
    assert (len(rows), rows.faults) == (len(documents), [])


def test_an_order_is_one_row_with_its_items_and_a_name_for_its_customer() -> None:
    found = proposed(orders(200))
    assert [column.name for column in found.columns] == [
        "order_id", "tenant", "placed_at", "customer_id", "email", "total", "items", "note",
    ]  # fmt: skip
    assert (found.time, found.key) == ("placed_at", ("order_id", "placed_at"))


def test_elements_with_a_time_are_the_rows_if_the_document_has_none(tmp_path: Path) -> None:
    elements = [{"id": f"ci{n}", "properties": {"time": 1_517_966_773_840 + n}} for n in range(5)]
    groups = json_entries([{"type": "FeatureCollection", "metadata": {"count": 5}, "features": elements}])
    found = suggested(groups)
    assert 'each = "features"' in found.toml.splitlines()
    assert found.table is not None
    assert (found.table.time, found.sampled) == ("time", 5)
    assert len(drained(groups, layout_of(found, tmp_path))) == 5
    nested = suggested(json_entries([{"result": {"rows": elements}}]))
    assert 'each = "result.rows"' in nested.toml.splitlines()
    with_time = suggested(json_entries([{"at": "2024-01-02T03:04:05Z", "features": elements}]))
    assert "each" not in with_time.toml


def test_without_a_time_a_stream_has_that_of_its_ids_and_a_file_has_none() -> None:
    documents = [{"n": 1}, {"n": 2}]
    found = proposed(documents)
    assert (found.time, [column.name for column in found.columns]) == ("time", ["time", "n"])
    found = proposed(documents, stream=False)
    assert (found.time, [column.name for column in found.columns]) == (None, ["n"])


def rows(count: int, **columns: Any) -> list[dict[str, Any]]:
    return [{name: value(n) if callable(value) else value for name, value in columns.items()} for n in range(count)]


TIME, DAY = "2024-01-02T03:04:05Z", "2024-01-02"


@pytest.mark.parametrize(
    ("documents", "time"),
    [
        ([{"ts": TIME, "at": TIME, "occurred_at": TIME}], "occurred_at"),
        ([{"at": TIME, "ts": TIME}], "ts"),
        ([{"event_time": DAY, "at": TIME}], "at"),
        ([{"other_at": TIME, "seen": TIME}], "other_at"),
        ([{"seen": TIME, "found": TIME}], "seen"),
        ([{"zat": TIME, "x_at": TIME}], "x_at"),
        ([{"a": {"at": TIME}, "b_at": TIME}], "b_at"),
        ([{"a": {"time": TIME}, "at": TIME}], "time"),
        ([{"at": TIME}, {"at": None}], "time"),
        ([{"at": TIME}, {"at": "NA"}], "time"),
        ([{"day": DAY}], "day"),
        ([{"n": 1}], "time"),
    ],
)
def test_the_time_of_a_row_is_the_one_with_the_usual_name_that_all_documents_have(
    documents: list[dict[str, Any]], time: str
) -> None:
    found = proposed(documents)
    assert found.time == time
    assert [column.required for column in found.columns if column.name == found.time] == [True]


TIMES = {"at": lambda n: f"2024-01-02T03:{n // 60:02}:{n % 60:02}Z"}
KEYS: list[tuple[list[dict[str, Any]], tuple[str, ...]]] = [
    (rows(3, id=str, **TIMES), ("id", "at")),
    (rows(3, order_id=str, **TIMES), ("order_id", "at")),
    (rows(3, customer=lambda n: {"id": n}, **TIMES), ()),
    (rows(3, customer_id=str, **TIMES), ()),  # three customers differ by chance
    (rows(200, trip_id=str, **TIMES), ("trip_id", "at")),
    (rows(200, id=lambda n: str(n // 2), **TIMES), ("id", "at")),  # not unique alone, but with the time
    (rows(200, id=lambda n: str(n // 2) if n else None, **TIMES), ()),
    (rows(200, sensor="a", **TIMES), ("sensor", "at")),
    (rows(200, sensor=lambda n: "x" * 100, **TIMES), ()),
    (rows(200, n=int, **TIMES), ()),
    (rows(100, trip_id=str, **TIMES), ("trip_id", "at")),
    (rows(99, trip_id=str, **TIMES), ()),
    (rows(100, sensor="a", **TIMES), ("sensor", "at")),
    (rows(99, sensor="a", **TIMES), ()),
    (rows(100, trip_id=str, a="x", b="y", c="z", **TIMES), ("trip_id", "at")),
    (rows(300, trip_id=str, a="x", b="y", c="z", **TIMES), ("trip_id", "at")),
    (rows(100, trip_uuid=str, **TIMES), ("trip_uuid", "at")),
    (rows(100, trip_key=str, **TIMES), ("trip_key", "at")),
    (rows(100, n=lambda n: {"trip_id": str(n)}, **TIMES), ("trip_id", "at")),
    (rows(100, a="x", b="y", c="z", **TIMES), ("a", "b", "c", "at")),
    (rows(100, a="x", b="y", c="z", d="z", **TIMES), ()),
    (rows(100, sensor="x" * 64, **TIMES), ("sensor", "at")),
    (rows(100, sensor="x" * 65, **TIMES), ()),
    (rows(100, sensor="x"), ()),
    (rows(3, id=int, **TIMES), ("id", "at")),
    (rows(3, id=lambda n: n + 0.5, **TIMES), ()),
    (rows(3, id=lambda n: "x" * 65 + str(n), **TIMES), ()),
    (rows(3, orders_id=str, **TIMES), ("orders_id", "at")),
    (rows(3, uuid=str, order_id=str, **TIMES), ("uuid", "at")),
    (rows(3, order_id=str, uuid=str, **TIMES), ("uuid", "at")),
    (rows(3, a=lambda n: {"uuid": str(n)}, order_id=str, **TIMES), ("order_id", "at")),
    (rows(3, id=str), ("id", "time")),
    (rows(200, sensor=lambda n: "a" if n else None, **TIMES), ()),
    (rows(200, sensor="a", at="2024-01-02T03:04:05Z", n=int), ()),
    ([{"id": "1", "at": "2024-01-02T03:04:05Z", "n": n} for n in (1, 1)], ("id", "at")),  # the same entry twice
    ([{"id": "1", "at": "2024-01-02T03:04:05Z", "n": n} for n in (1, 2)], ()),
]


@pytest.mark.parametrize(("documents", "key"), KEYS, ids=lambda value: str(value)[:50])
def test_a_key_is_an_id_or_some_texts_with_the_time(documents: list[dict[str, Any]], key: tuple[str, ...]) -> None:
    assert proposed(documents).key == key


def test_every_column_has_a_name_of_its_own() -> None:
    paths = [("a", "type"), ("properties", "type"), ("b", "name"), ("name",), ("x", "y"), ("y",), ("A b", "é!"), ("1",)]
    paths += [("geometry", "coordinates", 0), ("geometry", "coordinates", 1), ("p", 0), ("Type",), ("type",)]  # type: ignore[list-item]
    names = column_names([Leaf(path, [None]) for path in paths])
    assert names == [
        "a_type", "properties_type", "b_name", "name", "x_y", "y", "é", "_1", "longitude", "latitude", "p_0",
        "type", "type_2",
    ]  # fmt: skip
    long = column_names([Leaf(("x" * 70 + tail,), []) for tail in "abc"])
    assert len(set(long)) == 3
    assert max(len(name.encode()) for name in long) == 63


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([("a", "id"), ("data", "id")], ["a_id", "id"]),
        ([("payload", "type"), ("x", "payload", "type")], ["type", "payload_type"]),
        ([("x", "y", "z"), ("w", "y", "z"), ("v", "y", "z")], ["z", "y_z", "v_y_z"]),
        ([("x", "y", "z"), ("y", "z"), ("z",)], ["x_y_z", "y_z", "z"]),
        (
            [(as_read("coordinates"), n) for n in range(5)],
            ["longitude", "latitude", "altitude", "coordinates_3", "coordinates_4"],
        ),
        ([("bounds", 0), ("bounds", 1)], ["bounds_0", "bounds_1"]),
        ([("a", "b", "id"), ("c", "data", "id")], ["b_id", "id"]),
        ([("a b", "x"), ("a-b", "x"), ("A B", "x")], ["x", "a_b_x", "a_b_x_2"]),
        ([("a", "coordinates", 0), ("coordinates", 0)], ["a_longitude", "longitude"]),
        ([("xs", 0), ("xs", 11)], ["xs_0", "xs_11"]),
        ([("a b",), ("a-b",), ("A B",)], ["a_b", "a_b_2", "a_b_3"]),
        ([("é" * 40,), ("É" * 40,)], ["é" * 31, "é" * 30 + "_2"]),
        ([("x" * 63,), ("X" * 63,)], ["x" * 63, "x" * 61 + "_2"]),
        ([("!",), ("?",)], ["column", "column_2"]),
        ([("1a",), ("_b_",)], ["_1a", "b"]),
    ],
)
def test_a_name_has_as_few_names_of_its_path_as_make_it_unique(paths: list[Any], names: list[str]) -> None:
    assert column_names([Leaf(path, [None]) for path in paths]) == names


def test_a_name_after_many_of_the_same_is_numbered() -> None:
    names = column_names([Leaf((f"a{sign}",), []) for sign in "!?+-*/%&()="])
    assert names == ["a", *(f"a_{number}" for number in range(2, 12))]


def test_the_time_of_the_entry_has_a_name_that_no_key_has() -> None:
    found = proposed([{"time": "x", "time_2": 5}])
    assert [column.name for column in found.columns] == ["time_3", "time", "time_2"]
    assert (found.time, found.columns[0].leaf, found.columns[0].required) == ("time_3", None, True)
    assert (proposed([{}]).columns, proposed([{}]).time, proposed([{}]).key) == ([], None, ())


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("shop_orders", "order_id"),
        ("shop_orders", "shop_order_id"),
        ("shop_orders", "shop_orders_id"),
        ("box", "box_id"),
    ],
)
def test_the_id_of_a_table_may_have_the_name_of_the_table(table: str, key: str) -> None:
    for name, found in ((key, (key,)), (f"x{key}", ())):
        documents = [{name: "a"}, {name: "b"}]
        assert propose_table(table, find_leaves(documents), documents, "json", False).key == found


def test_a_file_may_have_a_key_without_a_time() -> None:
    found = proposed([{"id": "a", "n": 1}, {"id": "b", "n": 1}], stream=False)
    assert (found.time, found.key) == (None, ("id",))
    assert [column.required for column in found.columns] == [True, False]


def test_the_name_of_a_table_is_that_of_its_source() -> None:
    names = {
        "weather.csv.gz": "weather",
        "Shop:Orders-EU": "shop_orders_eu",
        "x.parquet": "x",
        "1": "_1",
        "*": "column",
    }
    assert {source: table_name(source) for source in names} == names


def test_the_sql_fits_the_version_of_the_server() -> None:
    table = proposed([{"id": "a", "at": "2024-01-02T03:04:05", "user": "x"}])
    quote = '"{}"'.format
    columns = (
        'CREATE TABLE "s"."orders" (\n'
        '    "id" text NOT NULL,\n'
        '    "at" timestamptz NOT NULL,  -- without an offset: UTC, unless a timezone is named\n'
        '    "user" text,\n'
        '    PRIMARY KEY ("id", "at")\n'
        ")"
    )
    newest = create_table(table, "s", Version("2.28.3"), quote)
    assert newest == f"{columns} WITH (tsdb.hypertable, tsdb.partition_column = 'at');"
    assert create_table(table, "s", Version("2.20"), quote) == newest
    older = create_table(table, "s", Version("2.18.1"), quote)
    assert older == f"""{columns};\nSELECT create_hypertable('"s"."orders"', by_range('at'));"""
    assert create_table(table, "s", None, quote) == f"{columns};"
