"""What spillway.toml must not say: every mistake is named, all of them at once, with what was expected and found."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors.exceptions import WrongUse
from infra.mapping.toml import load_mappings


def faults(folder: Path, text: str) -> list[str]:
    """The faults of a file, as its one-line message lists them."""
    path = folder / "spillway.toml"
    path.write_text(text)
    with pytest.raises(WrongUse) as refused:
        load_mappings(path)
    message = str(refused.value)
    assert "\n" not in message
    start, end = f"{path}: ", "; nothing was read; correct the file"
    assert message.startswith(start)
    assert message.endswith(end)
    return message.removeprefix(start).removesuffix(end).split("; ")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("colour = 1", "colour: unknown key, expected one of streams, tables"),
        ("stream = 1", "stream: unknown key, did you mean streams?"),
        ("streams = 5", "streams: expected a table, found 5"),
        ("[streams]\nx = 5", 'streams."x": expected a table, found 5'),
        ('[streams."a*"]\ntabel = "t"', 'streams."a*".tabel: unknown key, did you mean table?'),
        (
            '[streams.s]\nmag = "properties.mag"',
            'streams."s".mag: unknown key, or a column that belongs in [streams."s".columns]',
        ),
        ('[streams.s]\nlayout = "xml"', "streams.\"s\".layout: expected one of json, flat, found 'xml'"),
        ("[streams.s]\nlayout = 5", 'streams."s".layout: expected one of json, flat, found 5'),
        (
            '[streams.s]\ntable = ""',
            'streams."s".table: expected a table such as weather or shop.orders, with',
        ),
        ('[streams.s]\ntable = "a.b.c"', "other characters in double quotes as in SQL, found 'a.b.c'"),
        ("[streams.s]\ntable = 1.5", "as in SQL, found 1.5"),
        ('[streams.s]\nfield = ""', "streams.\"s\".field: expected a text, found ''"),
        (
            '[streams.s]\nencoding = ["gzip", "rar"]',
            'streams."s".encoding: expected one of gzip, zstd, base64, msgpack, or a list of these without repetition,'
            " found ['gzip', 'rar']",
        ),
        ('[streams.s]\nencoding = ["gzip", "gzip"]', "without repetition, found ['gzip', 'gzip']"),
        ('[streams.s]\nencoding = ["msgpack", "gzip"]', 'streams."s".encoding: expected msgpack last'),
        ('[streams.s]\nencoding = ["gzip", "msgpack", "zstd"]', 'streams."s".encoding: expected msgpack last'),
        ('[streams.s]\nlayout = "flat"\neach = "a"', 'streams."s".each: expected layout = "json", found "flat"'),
        ('[streams.s]\neach = "a["', 'streams."s".each: expected a key such as name, a.b or a[0].b'),
        ('[streams.s]\nunknown = "drop"', "streams.\"s\".unknown: expected one of ignore, refuse, found 'drop'"),
        ("[streams.s]\nnull = [[]]", 'streams."s".null: expected a text or number, or a list of these, found [[]]'),
        ('[streams.s]\nroute = "x"', "streams.\"s\".route: expected a table, found 'x'"),
        ('[streams.s]\nroute = { tables = { a = "b" } }', 'streams."s".route.key: missing'),
        ('[streams.s]\nroute = { key = "k" }', 'streams."s".route.tables: expected a table of values and the tables'),
        (
            '[streams.s]\nroute = { key = "k", tables = { a = "b.c.d" } }',
            'streams."s".route.tables.a: expected a table',
        ),
        ('[streams.s]\nroute = { key = "k[", tables = { a = "b" } }', 'streams."s".route.key: expected a key such as'),
        (
            '[streams.s]\ntable = "t"\ntime = "at"',
            'streams."s".time: expected in [streams."s".columns], found',
        ),
        ("[streams.s]\nproperties = 'a\"b'", 'streams."s".properties: expected a name without quotes, backslashes'),
        (
            '[streams.s]\ntime = "at"\ncolumns = { time = "ts" }',
            'streams."s".columns.time: cannot be combined with streams."s".time',
        ),
        (
            '[streams.s]\ntable = "t"\nunknown = "refuse"\ncolumns = { rest = { unmapped = true } }',
            'streams."s".unknown: cannot be combined with a column with unmapped = true',
        ),
        ('[tables.t]\nkeep = "x"', 'tables."t".keep: expected a duration such as'),
    ],
    ids=lambda value: ascii(value[-40:]),
)
def test_a_mistake_in_a_stream_is_named(text: str, fault: str, tmp_path: Path) -> None:
    (found,) = faults(tmp_path, text + "\n")
    assert fault in found


COLUMNS = {
    "5": ": expected a key or a table, found 5",
    "[]": ": expected a key or a table, found []",
    '""': ".key: expected a key or a template, found ''",
    '"a..b"': ".key: expected a key such as name, a.b or a[0].b, with other names in quotes as in",
    '"{a"': ".key: expected a key, or keys in braces such as {a}.{b.c}, with {{ and }} for braces, found '{a'",
    '"{{a}}"': ".key: expected a key, or keys in braces such as {a}.{b.c}",
    '"{a..b}"': ".key: expected a key such as name",
    '{ kee = "a" }': ".kee: unknown key, did you mean key?",
    '{ uuid = "a" }': ".uuid: unknown key, did you mean uuid5?",
    "{ colour = 1 }": ".colour: unknown key, expected one of key, first_of, constant, entry, document, unmapped,",
    '{ key = "a", constant = 1 }': ".key: cannot be combined with constant",
    '{ key = "a", entry = "id" }': ".key: cannot be combined with entry",
    '{ key = "a", first_of = ["a", "b"] }': ".key: cannot be combined with first_of",
    "{ document = true, unmapped = true }": ".document: cannot be combined with unmapped",
    '{ first_of = ["a"] }': ".first_of: expected a list of two keys or more, found ['a']",
    "{ first_of = [] }": ".first_of: expected a list of two keys or more, found []",
    "{ first_of = 5 }": ".first_of: expected a list of two keys or more, found 5",
    "{ first_of = {} }": ".first_of: expected a list of two keys or more, found {}",
    '{ first_of = ["a", 5] }': ".first_of: expected a list of two keys or more, found ['a', 5]",
    '{ first_of = ["a", "b["] }': ".first_of: expected a key such as name",
    '{ constant = 1, default = "a" }': ".constant: cannot be combined with default",
    "{ constant = 1, uuid5 = true }": ".constant: cannot be combined with uuid5",
    "{ constant = [] }": ".constant: expected a text, number, boolean or time, found []",
    "{ default = {} }": ".default: expected a text, number, boolean or time, found {}",
    '{ entry = "row" }': ".entry: expected one of id, time, found 'row'",
    '{ entry = "id", null = "" }': ".entry: cannot be combined with null",
    '{ entry = "time", uuid5 = true }': ".entry: cannot be combined with uuid5",
    '{ entry = "time", unit = "s" }': ".entry: cannot be combined with unit",
    '{ document = true, change = "trim" }': ".document: cannot be combined with change",
    '{ unmapped = true, default = "{}" }': ".unmapped: cannot be combined with default",
    '{ document = "yes" }': ".document: expected true or false, found 'yes'",
    '{ key = "{a}{b}", unit = "ms" }': ".unit: expected a single key, found a template",
    '{ change = ["trim", "upper", "lower"] }': ".change: expected either lower or upper",
    '{ key = "x{a}", unit = "ms" }': ".unit: expected a single key, found a template",
    '{ key = "{a}x", json = true }': ".json: expected a single key, found a template",
    '{ key = "{a}{b}", json = true }': ".json: expected a single key, found a template",
    '{ unit = "min" }': ".unit: expected one of s, ms, us, ns, found 'min'",
    '{ unit = "s", format = "%Y" }': ".unit: cannot be combined with format",
    '{ unit = "s", timezone = "UTC" }': ".unit: cannot be combined with timezone",
    '{ format = "%Q" }': ".format: expected a format of strptime such as %d/%m/%Y %H:%M, found '%Q'",
    '{ format = "%" }': ".format: expected a format of strptime",
    '{ format = "day" }': ".format: expected a format of strptime",
    '{ format = "%%" }': ".format: expected a format of strptime",
    '{ timezone = "Europe/Berln" }': ".timezone: expected an IANA time zone such as Europe/Berlin,",
    '{ timezone = "Europe" }': ".timezone: expected an IANA time zone such as Europe/",
    '{ timezone = "../etc" }': ".timezone: expected an IANA time zone such as Europe/Berlin, found '../etc'",
    '{ change = "title" }': ".change: expected one of trim, lower, upper, or a list of these without repetition",
    '{ change = ["lower", "upper"] }': ".change: expected either lower or upper, found ['lower', 'upper']",
    "{ uuid5 = 5 }": ".uuid5: expected true or the UUID of a namespace, found 5",
    '{ uuid5 = "dns" }': ".uuid5: expected true or the UUID of a namespace, found 'dns'",
    "{ ulid = true, uuid5 = true }": ".ulid: cannot be combined with uuid5",
    '{ ulid = true, format = "%Y" }': ".ulid: cannot be combined with format",
    '{ uuid5 = true, unit = "s" }': ".uuid5: cannot be combined with unit",
    '{ json = true, change = "lower" }': ".json: cannot be combined with change",
}


@pytest.mark.parametrize("text", COLUMNS)
def test_a_mistake_in_a_column_is_named(text: str, tmp_path: Path) -> None:
    (found,) = faults(tmp_path, f'[streams.s]\ntable = "t"\n[streams.s.columns]\nx = {text}\n')
    assert found.startswith(f'streams."s".columns.x{COLUMNS[text]}')


def test_a_zero_is_not_the_word_false(tmp_path: Path) -> None:
    text = "{ constant = 1, ulid = 0 }"
    found = faults(tmp_path, f'[streams.s]\ntable = "t"\n[streams.s.columns]\nx = {text}\n')
    assert [fault.removeprefix('streams."s".columns.x') for fault in found] == [
        ".constant: cannot be combined with ulid",
        ".ulid: expected true or false, found 0",
    ]


def test_all_mistakes_of_a_file_are_named_and_unknown_keys_come_first(tmp_path: Path) -> None:
    text = """
    [streams.a]
    layout = "xml"
    tme = "at"
    [streams.b]
    table = "t"
    columns = { x = { unit = "hours", kye = "y" }, y = "a..b" }
    [tables.t]
    keep = 7
    """
    places = [fault.partition(": ")[0] for fault in faults(tmp_path, text)]
    unknown, others = places[:2], places[2:]
    assert sorted(unknown) == ['streams."a".tme', 'streams."b".columns.x.kye']
    columns = 'streams."b".columns'
    assert others == ['streams."a".layout', f"{columns}.x.unit", f"{columns}.y.key", 'tables."t".keep']


def test_a_value_that_is_quoted_in_a_message_is_short(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, f'[streams.s]\nlayout = "{"x" * 1000}"\n')
    assert len(found) < 150


def test_a_file_that_cannot_be_read_is_one_line_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match=r"cannot be read: Is a directory; .*SPILLWAY_MAPPINGS"):
        load_mappings(tmp_path)
    path = tmp_path / "spillway.toml"
    for text, cause in ((b"# \xff\n", "'utf-8'"), (b"x =\n", r"Invalid value \(at line 1, column 4\)"), (b"\0", ".")):
        path.write_bytes(text)
        with pytest.raises(WrongUse, match=f"is not valid TOML: {cause}"):
            load_mappings(path)


@pytest.mark.parametrize(("length", "end"), [(57, "x'"), (58, "x'"), (59, "x…"), (300, "x…")])
def test_a_message_quotes_sixty_characters_of_a_value(tmp_path: Path, length: int, end: str) -> None:
    (fault,) = faults(tmp_path, f'[streams.s]\nlayout = "{"x" * length}"\n')
    quoted = fault.rpartition("found ")[2]
    assert (len(quoted), quoted[-2:]) == (min(length + 2, 60), end)


def test_unknown_keys_come_before_other_faults_that_they_may_explain(tmp_path: Path) -> None:
    text = '[streams.s]\nlayout = "xml"\ncolumns = { a = { kee = "x", first_of = [] } }\nfielt = "d"\n'
    found = faults(tmp_path, text)
    assert ["unknown key" in fault for fault in found] == [True, True, False, False]


def test_a_route_whose_key_is_no_text_is_one_fault(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, '[streams.s]\ntable = "t"\nroute = { key = 5, tables = { a = "a" } }\n')
    assert fault.startswith('streams."s".route.key: expected the key whose value chooses the table, found 5')
