"""`[streams."…"]` of spillway.toml: what each option means, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from infra.mapping.column_source import DEFAULT_NAMESPACE, ColumnSource, key_source
from infra.mapping.stream_mapping import BUILT_IN, StreamMapping
from infra.mapping.toml import load_mappings
from infra.settings import PROJECT_ROOT

DOCUMENT = ColumnSource(whole="document")
NAMESPACE = "6ba7b811-9dad-11d1-80b4-00c04fd430c8"


def mapped(folder: Path, text: str, stream: str = "s") -> StreamMapping:
    path = folder / "spillway.toml"
    path.write_text(text)
    return load_mappings(path).for_stream(stream)


def test_the_file_of_the_project_maps_the_real_events() -> None:
    mapping = load_mappings(PROJECT_ROOT / "spillway.toml").for_stream("crossref-live")
    assert mapping == StreamMapping(
        name="crossref*",
        layout="json",
        columns={
            "time": key_source("occurred_at"),
            "event_id": key_source("id"),
            "event_type": ColumnSource(("", "source_id", ".", "relation_type_id", "")),
            "user_id": replace(key_source("subj_id"), default="unknown"),
            "properties": DOCUMENT,
        },
    )


def test_a_stream_that_no_section_matches_has_the_built_in_mapping(tmp_path: Path) -> None:
    assert load_mappings(tmp_path / "none.toml").for_stream("x") is BUILT_IN
    assert mapped(tmp_path, "[streams.x]\n", "y") is BUILT_IN


def test_an_exact_name_goes_before_a_pattern_and_the_first_pattern_before_the_next(tmp_path: Path) -> None:
    text = '[streams."a*"]\n[streams."*"]\n[streams.abc]\n[streams."[x]"]\n'
    names = {name: mapped(tmp_path, text, name).name for name in ("abc", "abd", "b", "x", "[x]", "A")}
    assert names == {"abc": "abc", "abd": "a*", "b": "*", "x": "*", "[x]": "[x]", "A": "*"}


def test_two_lines_map_a_stream_into_a_table(tmp_path: Path) -> None:
    text = '[streams.s]\ntable = "weather"\nnull = "NA"\n'
    assert mapped(tmp_path, text) == StreamMapping(name="s", table="weather", null=("NA",))


def test_keys_that_no_column_reads_may_be_kept_or_refused(tmp_path: Path) -> None:
    kept = mapped(tmp_path, '[streams.s]\ntable = "t"\ncolumns = { rest = { unmapped = true } }\n')
    assert (kept.unknown, kept.columns["rest"].whole) == ("ignore", "unmapped")
    refused = mapped(tmp_path, '[streams.s]\ntable = "t"\nunknown = "refuse"\ncolumns = { a = { document = true } }\n')
    assert (refused.unknown, refused.columns["a"].whole) == ("refuse", "document")
    refused = mapped(tmp_path, '[streams.s]\ntable = "t"\nunknown = "refuse"\ncolumns = { a = "b" }\n')
    assert (refused.unknown, refused.columns) == ("refuse", {"a": key_source("b")})


@pytest.mark.parametrize(
    ("encoding", "found"), [('"msgpack"', ("msgpack",)), ('["zstd", "msgpack"]', ("zstd", "msgpack"))]
)
def test_the_innermost_encoding_may_be_messagepack(tmp_path: Path, encoding: str, found: tuple[str, ...]) -> None:
    assert mapped(tmp_path, f"[streams.s]\nencoding = {encoding}\n").encodings == found


def test_every_option_of_a_stream_has_its_effect(tmp_path: Path) -> None:
    found = mapped(
        tmp_path,
        """
        [streams."s*"]
        table = 'shop."Order Items"'
        layout = "json"
        field = "né"
        encoding = ["base64", "gzip", "msgpack"]
        each = "items[0].parts"
        unknown = "refuse"
        null = ["NA", "", -999, 1.50]
        """,
    )
    assert found == StreamMapping(
        name="s*",
        table='shop."Order Items"',
        layout="json",
        document_field="né".encode(),
        encodings=("base64", "gzip", "msgpack"),
        each="items[0].parts",
        unknown="refuse",
        null=("NA", "", "-999", "1.50"),
    )


def test_a_route_chooses_the_table_by_a_value(tmp_path: Path) -> None:
    text = '[streams.s]\nroute = { key = "a.kind", tables = { buy = "shop.buys", "a b" = "views" } }\n'
    found = mapped(tmp_path, text)
    assert (found.table, found.route_key, found.routes) == (None, "a.kind", {"buy": "shop.buys", "a b": "views"})
    assert found.columns == {}


COLUMNS = {
    '"k"': key_source("k"),
    '"actor.login"': key_source("actor.login"),
    "'geometry.coordinates[0]'": key_source("geometry.coordinates[0]"),
    "'\"a.b\".c'": key_source('"a.b".c'),
    '"{a.b}-{c}"': ColumnSource(("", "a.b", "-", "c", "")),
    '{ key = "k" }': key_source("k"),
    "{ }": key_source("x"),
    '{ first_of = ["a", "b.c", "d"] }': key_source("a", "b.c", "d"),
    '{ first_of = ["a", "b"], default = "" }': replace(key_source("a", "b"), default=""),
    '{ constant = "" }': ColumnSource(("",)),
    '{ constant = "{x}" }': ColumnSource(("{x}",)),
    "{ constant = 7 }": ColumnSource(("7",)),
    "{ constant = 1.10 }": ColumnSource(("1.10",)),
    "{ constant = 1_000.5e400 }": ColumnSource(("1000.5e400",)),
    "{ constant = false }": ColumnSource(("false",)),
    "{ constant = 2026-11-26T10:00:00Z }": ColumnSource(("2026-11-26T10:00:00+00:00",)),
    "{ constant = 2026-11-26 }": ColumnSource(("2026-11-26",)),
    '{ key = "k", default = 0.10 }': replace(key_source("k"), default="0.10"),
    "{ default = true }": replace(key_source("x"), default="true"),
    '{ null = ["NA", -1] }': replace(key_source("x"), null=("NA", "-1")),
    '{ null = "" }': replace(key_source("x"), null=("",)),
    '{ entry = "id" }': ColumnSource(whole="entry_id"),
    '{ entry = "time" }': ColumnSource(whole="entry_time"),
    '{ entry = "id", uuid5 = true }': ColumnSource(whole="entry_id", namespace=DEFAULT_NAMESPACE),
    "{ document = true }": DOCUMENT,
    "{ unmapped = true }": ColumnSource(whole="unmapped"),
    "{ unmapped = false }": key_source("x"),
    '{ unit = "ms" }': replace(key_source("x"), unit="ms"),
    '{ format = "%d/%m/%Y %H:%M", timezone = "Europe/Berlin" }': replace(
        key_source("x"), format="%d/%m/%Y %H:%M", timezone="Europe/Berlin"
    ),
    '{ key = "{day} {hour}", format = "%Y%m%d %H", timezone = "UTC" }': ColumnSource(
        ("", "day", " ", "hour", ""), format="%Y%m%d %H", timezone="UTC"
    ),
    '{ change = "trim" }': replace(key_source("x"), changes=("trim",)),
    '{ change = ["lower", "trim"] }': replace(key_source("x"), changes=("lower", "trim")),
    "{ uuid5 = true }": replace(key_source("x"), namespace=DEFAULT_NAMESPACE),
    "{ uuid5 = false, ulid = true }": replace(key_source("x"), ulid=True),
    f'{{ key = "{{a}}/{{b}}", uuid5 = "{NAMESPACE}" }}': ColumnSource(
        ("", "a", "/", "b", ""), namespace=UUID(NAMESPACE)
    ),
    "{ json = true }": replace(key_source("x"), json=True),
}


@pytest.mark.parametrize("text", COLUMNS)
def test_a_column_is_read_from_what_its_value_says(text: str, tmp_path: Path) -> None:
    found = mapped(tmp_path, f'[streams.s]\ntable = "t"\n[streams.s.columns]\nx = {text}\n')
    assert found.columns == {"x": COLUMNS[text]}


def test_a_column_whose_name_looks_like_a_path_is_read_from_the_key_with_its_name(tmp_path: Path) -> None:
    columns = '"a.b" = { json = true }\n"a[" = { json = true }\n'
    found = mapped(tmp_path, f'[streams.s]\ntable = "t"\n[streams.s.columns]\n{columns}')
    assert {name: source.single_key for name, source in found.columns.items()} == {"a.b": "a.b", "a[": '"a["'}


def test_a_mapping_of_the_first_release_means_what_it_meant(tmp_path: Path) -> None:
    found = mapped(
        tmp_path,
        """
        [streams.s]
        layout = "flat"
        time = "a..at"
        event_id = { key = "{shop}/{no[}", uuid5 = true }
        event_type = "shop.{kind}{{{sub.x}}}!"
        user_id = { key = "who", default = "" }
        properties = "{more}"
        [streams.s.columns]
        tenant = "org"
        """,
    )
    assert found.columns == {
        "time": key_source('"a..at"'),
        "event_id": ColumnSource(("", "shop", "/", '"no["', ""), namespace=DEFAULT_NAMESPACE),
        "event_type": ColumnSource(("shop.", "kind", "{", "sub.x", "}!")),
        "user_id": ColumnSource(("", "who", ""), default=""),
        "properties": key_source("{more}"),
        "tenant": key_source("org"),
    }


def test_every_text_of_the_first_release_but_that_of_properties_is_a_template(tmp_path: Path) -> None:
    names = ("time", "event_id", "event_type", "user_id")
    found = mapped(tmp_path, "[streams.s]\n" + "".join(f'{name} = "x-{{a}}"\n' for name in (*names, "properties")))
    assert found.columns == {name: ColumnSource(("x-", "a", "")) for name in names} | {
        "properties": key_source("x-{a}")
    }


@pytest.mark.parametrize("table", ["", 'table = "events"\n', 'table = "PUBLIC.Events"\n', "table = '\"events\"'\n"])
def test_the_whole_document_becomes_properties_of_events_unless_they_are_named(table: str, tmp_path: Path) -> None:
    assert mapped(tmp_path, f"[streams.s]\n{table}").columns == {"properties": DOCUMENT}
    named = mapped(tmp_path, f"[streams.s]\n{table}columns = {{ properties = 'more' }}\n")
    assert named.columns == {"properties": key_source("more")}
    assert mapped(tmp_path, '[streams.s]\ntable = "shop.events"\n').columns == {}
