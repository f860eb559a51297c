"""Columns in the path of a file, in every format."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors.exceptions import Terminal
from tasks.archive.manifest import archive_name
from tasks.columns.entries import MALFORMED
from tasks.files.archive_paths import data_path
from tasks.files.find import find_files
from tasks.files.formats.blocks import RowBlock
from tasks.files.partition import add_path_columns, content_name, parse_path_columns
from tasks.files.verified_read import VerifiedRead
from tasks.table.chunks import Chunk
from tests.support.source_files import Fields, fields_of

PATHS = {
    "/data/x.csv": (),
    "/data/year=2024/month=01/x.csv": (("year", "2024"), ("month", "01")),
    "bucket/a%20b=c%2Fd%3D%C3%BC/x.csv": (("a b", "c/d=ü"),),
    "/data/kind=__HIVE_DEFAULT_PARTITION__/x.csv": (("kind", None),),
    "/data/kind=/x.csv": (("kind", ""),),
    "/data/kind=a=b/x.csv": (("kind", "a=b"),),
    "/data/=a/2024/year=2024.csv": (),
    "/data/year=2024/again/year=2024/x.csv": (("year", "2024"),),
}


@pytest.mark.parametrize("path", PATHS)
def test_folders_with_a_name_and_a_value_are_columns(path: str) -> None:
    assert parse_path_columns(path, path) == PATHS[path]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/a=1/a=2/x.csv", "one value for 'a' in the path, found '1' and '2'; nothing was loaded; rename"),
        ("/a=%FF/x.csv", "UTF-8 in its folders NAME=VALUE, found other bytes; .*; rename the folder"),
        ("/a=\udcff/x.csv", "UTF-8 in its folders"),
    ],
)
def test_an_ambiguous_path_is_refused(path: str, message: str) -> None:
    with pytest.raises(Terminal, match=f"^backfill: x: expected {message}"):
        parse_path_columns(path, "x")


def test_folders_of_our_archive_are_not_columns() -> None:
    for start in (datetime(2024, 1, 4, tzinfo=UTC), datetime(2024, 1, 4, 1, 2, 3, 45, tzinfo=UTC)):
        chunk = Chunk("_timescaledb_internal", "c", start, datetime(2024, 1, 5, tzinfo=UTC))
        path = data_path("events", date(2024, 1, 4), archive_name(chunk, f"{1 << 100:032x}"))
        assert parse_path_columns(path, "x") == parse_path_columns(f"/archive/{path}", "x") == ()
    assert parse_path_columns("/archive/events/day=2024-01-04/part-0.parquet", "x") == (("day", "2024-01-04"),)


def test_path_columns_change_the_identity_of_a_file() -> None:
    sha256 = hashlib.sha256(b"x").hexdigest()
    assert content_name(sha256, ()) == sha256
    names = [content_name(sha256, (("a", value), ("b", "1"))) for value in ("1", "2", "", None)]
    assert len({sha256, *names}) == 5
    assert all(len(name) == 64 for name in names)
    assert content_name(sha256, (("b", "1"), ("a", "1"))) == names[0]


def loaded(folder: Path, name: str, data: bytes) -> list[Fields]:
    """The fields or documents of all rows of a file in `kind=a b/month=01`."""
    partition = folder / "kind=a%20b" / "month=01" / "none=__HIVE_DEFAULT_PARTITION__"
    partition.mkdir(parents=True, exist_ok=True)
    (partition / name).write_bytes(data)
    (file,) = find_files(str(partition / name))
    document = b"data" if name.endswith("ndjson") else None
    return [
        fields
        for rows in VerifiedRead(file)
        for fields in fields_of([add_path_columns(rows, file.path_columns, document, file.display_name)]).values()
    ]


ADDED = {b"kind": b"a b", b"month": b"01"}


def test_every_valid_record_gets_the_path_columns(tmp_path: Path) -> None:
    assert loaded(tmp_path, "x.csv", b"x,y\n1,\n3\n,4\n") == [
        {b"x": b"1", **ADDED},
        {MALFORMED: b"3"},
        {b"y": b"4", **ADDED},
    ]


def test_a_column_of_the_path_may_also_be_in_the_file_with_the_same_value_or_null(tmp_path: Path) -> None:
    assert loaded(tmp_path, "x.csv", b"month,x\n01,1\n1,2\n,3\n") == [{b"x": b"%d" % n, **ADDED} for n in (1, 2, 3)]
    documents = [b'{"month":"01","x":1}', b'{"x":1,"month":1}', b'{"x":1,"month":null}', b'{"x":1}']
    found = loaded(tmp_path, "x.ndjson", b"\n".join(documents))
    assert [orjson.loads(fields[b"data"]) for fields in found] == [{"x": 1, "kind": "a b", "month": "01"}] * 4


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.csv", b"x,kind\n1,a b\n2,secret\n"),
        ("x.csv", b"x,month\n1,01\n2,10\n"),
        ("x.ndjson", b'{"kind":"a b"}\n{"kind":"secret"}\n'),
        ("x.ndjson", b'{"month":1}\n{"month":1.5}\n'),
    ],
)
def test_a_column_that_contradicts_the_path_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(
        Terminal, match=rf"{name}, row 2: expected '(kind|month)' to be '(a b|01)' as in the path"
    ) as refused:
        loaded(tmp_path, name, data)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "line", [b"[1]", b"{", b'{"a":1', b'{"a":1}}', b'"x"', b"x", b'{"a":{"b":1}', b'{"a":"}', b'{"a":1,}', b"{}x}"]
)
def test_malformed_documents_stay_unchanged(tmp_path: Path, line: bytes) -> None:
    (fields,) = loaded(tmp_path, "x.ndjson", line)
    try:
        found = orjson.loads(fields[b"data"])
    except ValueError:
        return
    assert not isinstance(found, dict)


def test_empty_and_padded_objects_get_the_path_columns(tmp_path: Path) -> None:
    found = loaded(tmp_path, "x.ndjson", b'{}\n { } \r\n\t{ "x" : 1 } ')
    assert [orjson.loads(fields[b"data"]) for fields in found] == [
        {"kind": "a b", "month": "01"},
        {"kind": "a b", "month": "01"},
        {"x": 1, "kind": "a b", "month": "01"},
    ]


a_text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=6)
a_row = st.tuples(
    st.sampled_from(["a/b", "ü %", "=", "x"]) | a_text.filter(lambda text: text not in ("", ".", "..")),
    st.none() | st.integers(-5, 5),
    st.integers(),
)


@settings(max_examples=60)
@given(st.lists(a_row, min_size=1, max_size=12), st.sampled_from(["parquet", "csv"]))
def test_files_partitioned_by_arrow_read_back_unchanged(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int | None, int]], form: str
) -> None:
    folder = tmp_path_factory.mktemp("split")
    table = pa.table(
        {
            "kind": pa.array([kind for kind, _, _ in rows], pa.string()),
            "month": pa.array([month for _, month, _ in rows], pa.int64()),
            "n": pa.array([str(n) for _, _, n in rows], pa.string()),
        }
    )
    by = ds.partitioning(pa.schema([table.schema.field("kind"), table.schema.field("month")]), flavor="hive")
    ds.write_dataset(table, folder, format=form, partitioning=by)
    found = []
    for file in find_files(str(folder)):
        for part in VerifiedRead(file):
            found += fields_of([add_path_columns(part, file.path_columns, None, file.display_name)]).values()
    expected = [
        {b"kind": kind.encode(), b"n": b"%d" % n} | ({} if month is None else {b"month": b"%d" % month})
        for kind, month, n in rows
    ]
    assert sorted(found, key=repr) == sorted(
        [{name: fields[name] for name in (b"kind", b"month", b"n") if name in fields} for fields in expected], key=repr
    )


def test_a_value_of_the_path_is_a_text_also_if_the_column_of_its_name_is_json() -> None:
    rows = RowBlock(
        np.array([1]), (b"month", b"n"), (pa.array([b"1"]), pa.array([b"2"])), json_keys=frozenset([b"month", b"n"])
    )
    found = add_path_columns(rows, (("month", "01"),), None, "x")
    assert dict(zip(found.keys, [v.to_pylist() for v in found.values], strict=True))[b"month"] == [b"01"]
    assert found.json_keys == {b"n"}
    assert add_path_columns(rows, (("month", None),), None, "x").json_keys == {b"month", b"n"}
