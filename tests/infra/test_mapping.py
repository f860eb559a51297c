"""spillway.toml: what it maps, and the one line about an invalid file."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from infra.errors.exceptions import Terminal, WrongUse
from infra.mapping import FLAT, JSON, ColumnSource, Mapping, configured_mappings, explain_no_mapping, load_mappings
from infra.settings import PROJECT_ROOT, Settings, settings_folder
from tests.support.decoded_entries import decoded_json

STREAM = {
    "layout": '"json"',
    "time": '"at"',
    "event_id": '"id"',
    "event_type": '"kind"',
    "user_id": '"who"',
}


def stream(name: str = '"a*"', **changes: str | None) -> str:
    """A good table of a stream; a change to None leaves a key out."""
    lines = [f"{key} = {value}" for key, value in (STREAM | changes).items() if value is not None]
    return "\n".join([f"[streams.{name}]", *lines, ""])


def mapped(folder: Path, text: str, name: str = "abc") -> Mapping:
    path = folder / "spillway.toml"
    path.write_text(text)
    found = load_mappings(path).for_stream(name)
    assert found is not None
    return found


def test_the_file_of_the_project_maps_the_real_events() -> None:
    mapping = load_mappings(PROJECT_ROOT / "spillway.toml").for_stream("crossref-live")
    assert mapping is not None
    document = (
        b'{"occurred_at": "2019-08-01T00:00:00Z", "id": "0123abcd-4567-89ab-cdef-0123456789ab",'
        b' "source_id": "web", "relation_type_id": "mentions"}'
    )
    events = decoded_json([document, document.replace(b'{"', b'{"subj_id": "s", "', 1)], mapping)
    assert events.event_type.to_pylist() == [b"web.mentions"] * 2
    assert events.user_id.to_pylist() == [b"unknown", b"s"]
    assert events.properties[0].as_py() == document
    assert load_mappings(PROJECT_ROOT / "spillway.toml").for_stream("clicks") is None


def test_a_missing_file_maps_nothing(tmp_path: Path) -> None:
    assert load_mappings(tmp_path / "none.toml").for_stream("x") is None


def test_an_exact_name_goes_before_a_pattern_and_the_first_pattern_before_the_next(tmp_path: Path) -> None:
    text = stream('"a*"') + stream('"*"') + stream('"abc"') + stream('"[x]"')
    names = {name: mapped(tmp_path, text, name).name for name in ("abc", "abd", "b", "x", "[x]", "A")}
    assert names == {"abc": "abc", "abd": "a*", "b": "*", "x": "*", "[x]": "[x]", "A": "*"}


def test_every_key_of_a_stream_has_its_effect(tmp_path: Path) -> None:
    found = mapped(
        tmp_path,
        stream(
            layout='"flat"',
            field='"né"',
            event_id='{ key = "order", uuid5 = true }',
            event_type='"shop.{kind}{{{sub}}}!"',
            user_id='{ key = "who", default = "" }',
            properties='"more"',
        ),
    )
    assert found == Mapping(
        layout="flat",
        field="né".encode(),
        time=ColumnSource(("", "at", "")),
        event_id=ColumnSource(("", "order", "")),
        event_type=ColumnSource(("shop.", "kind", "{", "sub", "}!")),
        user_id=ColumnSource(("", "who", ""), default=""),
        properties="more",
        uuid5=True,
        name="a*",
    )


def test_the_names_of_a_json_field_and_of_its_properties_may_have_one_character(tmp_path: Path) -> None:
    found = mapped(tmp_path, stream(field='"d"', properties='"p"'))
    assert (found.layout, found.field, found.properties) == ("json", b"d", "p")


def test_the_built_in_layouts_differ_in_nothing_but_the_layout() -> None:
    assert (FLAT.layout, JSON.layout) == ("flat", "json")
    assert replace(JSON, layout="flat") == FLAT
    assert (FLAT.name, FLAT.field, FLAT.properties, FLAT.extra_columns) == ("", b"data", "properties", ())
    assert list(FLAT.sources) == ["time", "event_id", "event_type", "user_id"]


def test_left_out_keys_are_the_field_data_and_the_whole_document(tmp_path: Path) -> None:
    found = mapped(tmp_path, stream())
    assert (found.field, found.properties, found.uuid5) == (b"data", None, False)
    assert (found.time.required, found.time.default) == (("at",), None)


def test_a_key_with_a_default_or_another_name_is_not_required() -> None:
    assert ColumnSource(("", "a", ".", "b", "")).required == ("a", "b")
    assert ColumnSource(("", "a", ""), default="").required == ()
    assert (FLAT.time.required, FLAT.time.keys) == ((), ("time", "timestamp"))
    assert JSON.event_id.required == ("event_id",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (stream(colour='"red"'), 'streams."a*".colour: unknown key, expected one of layout, field, time,'),
        ("colour = 1\n", "colour: unknown key, expected one of streams"),
        (stream(time='{ kee = "x" }'), 'streams."a*".time.kee: unknown key, expected one of key, default'),
        (stream(time='{ key = "x", uuid5 = true }'), 'streams."a*".time.uuid5: unknown key'),
        (stream(time=None), 'streams."a*".time: expected a value, found none'),
        (stream(layout=None), 'streams."a*".layout: expected a value, found none'),
        (stream(user_id='{ default = "x" }'), 'streams."a*".user_id.key: expected a value, found none'),
        ("[streams.x]\n", 'streams."x".event_type: expected a value, found none'),
        (stream(layout='"xml"'), "streams.\"a*\".layout: input should be 'json' or 'flat', found 'xml'"),
        (stream(event_type='"{a"'), 'streams."a*".event_type.key: expected a key, or keys in braces'),
        (stream(event_type='"a}"'), "such as {a}.{b}, found 'a}'"),
        (stream(event_type='"{}"'), 'streams."a*".event_type.key: expected a key, or keys in braces'),
        (stream(event_type='"{A!r}"'), "found '{A!r}'"),
        (stream(event_type='"{a:>9}"'), 'streams."a*".event_type.key: expected a key, or keys in braces'),
        (stream(event_type='"{{a}}"'), 'streams."a*".event_type.key: expected a key, or keys in braces'),
        (stream(event_type='""'), 'streams."a*".event_type.key: string should have at least 1 character'),
        (stream(event_type="'a\"b'"), 'streams."a*".event_type.key: string should match pattern'),
        (stream(event_type="5"), 'streams."a*".event_type: expected a key or a table, found 5'),
        (stream(user_id='{ key = "x", default = 5 }'), 'streams."a*".user_id.default: '),
        (stream(event_id='{ key = "x", uuid5 = "perhaps" }'), 'streams."a*".event_id.uuid5: '),
        (stream(properties='""'), 'streams."a*".properties: '),
        (stream(properties="'\\'"), 'streams."a*".properties: '),
        (stream(properties='"who"'), 'streams."a*".properties: expected a key that no other column reads'),
        (stream(field='""'), 'streams."a*".field: '),
        ("streams = 5\n", "streams: expected a table, found 5"),
        ("[streams]\nx = 5\n", 'streams."x": expected a table, found 5'),
        (stream() + stream(), "is not valid TOML: "),
        ("x =\n", "is not valid TOML: Invalid value (at line 1, column 4)"),
        ("\x00", "is not valid TOML: "),
    ],
    ids=lambda value: ascii(value[-40:]),
)
def test_a_wrong_file_is_one_line_that_names_the_file_and_the_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "spillway.toml"
    path.write_text(text)
    with pytest.raises(Terminal) as refused:
        load_mappings(path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert said in message
    assert re.search("; nothing was read; (correct the file|fix that line)$", message)
    assert "\n" not in message
    assert len(message) < 600


def test_all_faults_are_named_unknown_keys_first(tmp_path: Path) -> None:
    path = tmp_path / "spillway.toml"
    path.write_text(stream(time=None, tme='"at"', layout='"xml"'))
    with pytest.raises(Terminal, match=r"tme: unknown key.*layout: .*time: expected a value, found none"):
        load_mappings(path)


def test_the_same_key_as_properties_and_as_a_column_is_accepted_for_flat_entries(tmp_path: Path) -> None:
    assert mapped(tmp_path, stream(layout='"flat"', properties='"who"')).properties == "who"


def test_a_file_that_cannot_be_read_is_one_line_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(Terminal) as refused:
        load_mappings(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path} cannot be read: Is a directory; nothing was read; fix its permissions or SPILLWAY_MAPPINGS"
    )
    path = tmp_path / "spillway.toml"
    path.write_bytes(b"# \xff\n")
    with pytest.raises(Terminal) as refused:
        load_mappings(path)
    assert str(refused.value) == (
        f"{path} is not valid TOML: 'utf-8' codec can't decode byte 0xff in position 2: invalid start byte;"
        " nothing was read; fix that line"
    )


def test_the_valid_keys_of_each_place_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "spillway.toml"
    for change, expected in (
        ({"event_id": '{ key = "x", kye = "y" }'}, "expected one of key, default, uuid5"),
        ({"user_id": '{ key = "x", kye = "y" }'}, "expected one of key, default"),
        ({"kye": '"y"'}, "expected one of layout, field, time, event_id, event_type, user_id, properties"),
    ):
        path.write_text(stream(**change))
        with pytest.raises(WrongUse) as refused:
            load_mappings(path)
        assert f"kye: unknown key, {expected}; nothing was read; correct the file" in str(refused.value)


def test_each_fault_of_a_file_is_separated_by_a_semicolon(tmp_path: Path) -> None:
    path = tmp_path / "spillway.toml"
    path.write_text(stream(time=None, layout='"xml"'))
    with pytest.raises(WrongUse) as refused:
        load_mappings(path)
    faults = str(refused.value).removeprefix(f"{path}: ").split("; ")
    assert faults == [
        "streams.\"a*\".layout: input should be 'json' or 'flat', found 'xml'",
        'streams."a*".time: expected a value, found none',
        "nothing was read",
        "correct the file",
    ]


def test_only_a_mapping_file_that_the_settings_name_has_to_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(WrongUse) as refused:
        configured_mappings(Settings(mappings=missing, _env_file=None))
    assert str(refused.value) == (
        f"SPILLWAY_MAPPINGS: expected a file, found nothing at {missing} (relative paths start at {settings_folder()});"
        " nothing was read; correct the variable or its line in .env"
    )
    there = tmp_path / "there.toml"
    there.write_text(stream())
    assert configured_mappings(Settings(mappings=there, _env_file=None)).for_stream("abc") is not None
    monkeypatch.delenv("SPILLWAY_MAPPINGS", raising=False)
    unnamed = Settings(_env_file=None)
    monkeypatch.setitem(unnamed.__dict__, "mappings", missing)
    assert configured_mappings(unnamed).for_stream("abc") is None


def test_a_stream_without_a_mapping_is_explained_by_the_file(tmp_path: Path) -> None:
    path = tmp_path / "spillway.toml"
    assert explain_no_mapping(path) == f"{path} does not exist"
    path.write_text("")
    assert explain_no_mapping(path) == f"no table of {path} matches it"


def test_a_template_knows_its_keys_and_its_single_key() -> None:
    assert ColumnSource(("", "a", ""), fallback="b").keys == ("a", "b")
    assert ColumnSource(("", "a", ""), fallback="b").required == ()
    assert ColumnSource(("x", "a", ".", "b", "")).keys == ("a", "b")
    singles = [ColumnSource(pieces).single_key for pieces in (("", "a", ""), ("x", "a", ""), ("", "a", "x"))]
    assert singles == ["a", None, None]
    assert ColumnSource(("", "a", "", "b", "")).single_key is None
