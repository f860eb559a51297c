"""The reference pages say what the program says: settings, commands, exit codes, tables and figures."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import orjson
import psycopg
import pytest

from infra.errors.exit_codes import ExitCode
from infra.setting_files import SUFFIX
from infra.setting_names import OTHER_VARIABLES
from infra.settings import PROJECT_ROOT, Settings
from tests.docs.generated import SETTINGS, commands, part, parts_of
from tests.docs.pages import ALL_PAGES, PAGES, Command, blocks, headings, inline_commands, text_of
from tests.docs.pages import commands as typed_in

_ROW = re.compile(r"^\| (.+)\|$", re.MULTILINE)
# Types as the catalog spells them → as the page does.
_SHORT = {"timestamp with time zone": "timestamptz"}


@pytest.mark.parametrize("page", PAGES)
def test_the_generated_parts_of_a_page_are_up_to_date(page: str) -> None:
    for name, text in parts_of(page).items():
        assert text == part(name), f"{page}, {name}: run python -m tests.docs.generated"


def test_every_setting_is_in_the_reference_once() -> None:
    listed = [name for names in SETTINGS.values() for name in names]
    assert sorted(listed) == sorted(Settings.model_fields)
    assert set(parts_of("docs/reference/settings.md")) == {f"settings {group}" for group in SETTINGS}


@pytest.mark.parametrize("page", ALL_PAGES)
def test_every_variable_that_a_page_names_is_a_setting(page: str) -> None:
    known = {
        f"SPILLWAY_{name.upper()}{end}" for name in Settings.model_fields for end in ("", SUFFIX)
    } | OTHER_VARIABLES
    named = set(re.findall(r"SPILLWAY_[A-Z_]*[A-Z]", text_of(page)))
    assert {name for name in named - known if not name.startswith("SPILLWAY_TEST")} == set()


def test_every_command_has_a_section_with_its_options() -> None:
    page = "docs/reference/commands.md"
    names = set(commands()) - {"spillway"}
    assert {heading for heading in headings(page) if heading.startswith("spillway ")} == names
    assert set(parts_of(page)) == {f"options {name}" for name in names}


# What `--help` of each command lists.
OPTIONS = {
    name: {"--help"} | {option for found in command.params for option in (*found.opts, *found.secondary_opts)}
    for name, command in commands().items()
}


def _all_commands() -> Iterator[Any]:
    for page in PAGES:
        for block in blocks(page, "bash", "console"):
            yield from (pytest.param(command, id=command.where) for command in typed_in(block))
        for number, text in enumerate(inline_commands(page)):
            yield pytest.param(Command(page, text), id=f"{page}-inline-{number}")


@pytest.mark.parametrize("command", _all_commands())
def test_a_spillway_command_of_a_page_exists_with_its_options(command: Command) -> None:
    for words in _programs(command.text):
        if words[0] != "spillway" or len(words) == 1:
            continue
        name, rest = _longest_command(words)
        if name == "spillway":  # no command of it: an option of its own, or a word in capitals for any command
            assert rest[0].isupper() or rest[0] in OPTIONS[name], command
        elif name not in ("spillway psql", "spillway redis-cli"):  # these pass everything on
            used = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
            assert used <= OPTIONS[name], command


def _programs(line: str) -> list[list[str]]:
    """The words of each command of a pipeline, without assignments before it."""
    words = [word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)]
    programs: list[list[str]] = [[]]
    for word in words:
        if word in ("|", ";", "&&"):
            programs.append([])
        else:
            programs[-1].append(word)
    return [program for program in programs if program]


def _longest_command(words: list[str]) -> tuple[str, list[str]]:
    for count in (3, 2, 1):
        if (name := " ".join(words[:count])) in commands():
            return name, words[count:]
    raise AssertionError(f"no such command: {words}")


@pytest.mark.parametrize("command", _all_commands())
def test_a_make_target_of_a_page_exists(command: Command) -> None:
    targets = re.findall(r"^([a-z]+):", (PROJECT_ROOT / "Makefile").read_text(), re.MULTILINE)
    words = shlex.split(command.text, comments=True)
    assert words[0] != "make" or words[1] in targets


def test_every_exit_code_is_in_the_reference_with_its_meaning() -> None:
    rows = [row.split(" | ") for row in _ROW.findall(text_of("docs/reference/exit-codes.md"))]
    documented = {int(row[0]): row[1] for row in rows if row[0].isdigit()}
    assert documented == {code.value: code.meaning for code in ExitCode}


_COLUMNS = """
    SELECT CASE WHEN n.nspname = 'spillway' THEN 'spillway.' ELSE '' END || c.relname, a.attname,
           format_type(a.atttypid, a.atttypmod), a.attnotnull
      FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
       AND (n.nspname = 'spillway' OR n.nspname = 'public' AND c.relname = 'events')
     ORDER BY c.oid, a.attnum"""


def test_every_column_of_every_table_is_in_the_reference_with_its_type(database: psycopg.Connection) -> None:
    found: dict[str, dict[str, str]] = {}
    for table, column, kind, not_null in database.execute(_COLUMNS):
        spelled = _SHORT.get(kind, kind) + (", not null" if not_null else "")
        found.setdefault(table, {})[column] = spelled
    documented = {}
    for section in re.split(r"^## ", text_of("docs/reference/tables.md"), flags=re.MULTILINE)[1:]:
        rows = [row.split(" | ") for row in _ROW.findall(section)]
        columns = {row[0].strip("`"): row[1].strip(" |") for row in rows if row[0].startswith("`")}
        documented[section.split()[0]] = columns
    assert documented == found


def test_the_figures_of_the_readme_are_those_of_the_last_benchmark() -> None:
    results = orjson.loads((PROJECT_ROOT / "docs/benchmark.json").read_bytes())
    claims = {claim["what"]: claim["median"] for claim in results["claims"]}
    rates = [row.split(" | ") for row in _ROW.findall(parts_of("docs/benchmarks.md")["rates"])[2:]]
    rate = {name: round(int(flat.replace(",", "")), -3) for name, flat, _ in rates}
    figures = [
        f"{rate['Spillway, 1 connection']:,} events/s",
        f"{rate['Spillway, 2 connections']:,} over two",
        f"{claims['drain ÷ prepared COPY, 1 connection; flat events of 200 bytes']:.2f} times",
        f"{claims['client CPU, µs/event; flat events of 200 bytes']:.1f} µs",
        f"{claims['peak memory, MB']:.0f} MB",
    ]
    words = " ".join(text_of("README.md").split())
    assert [figure for figure in figures if figure not in words] == []
