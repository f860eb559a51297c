"""Every command of the pages is typed, in the order of the page, in the folder of a new user.

A block that cannot run here has an HTML comment with the reason before it, `<!-- not run: … -->`. Its commands must
exist and have the options that it uses. Output that a page shows is compared with what the command prints; numbers,
spaces and widths are not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis

from tests.docs import prepare
from tests.docs.pages import PAGES, Block, Command, blocks, commands
from tests.docs.terminal import Terminal, has_shape
from tests.support.programs import BIN
from tests.support.servers import Servers
from tests.support.tables import users_relations

pytestmark = pytest.mark.timeout(600)

RUNNABLE = ("bash", "console", "toml", "sql", "python")
WITH_COMMANDS = [page for page in PAGES if blocks(page, "bash", "console")]
_MOST_NOT_RUN = 13  # apart from what needs Docker, a Kubernetes cluster or another machine's systemd
_ELSEWHERE = {f"docs/production/{name}.md" for name in ("containers", "kubernetes", "systemd")}
_COMPRESSES = re.compile(r"^(chunks compressed|compression |to do: compression ).*\n?", re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare.project(tmp_path)
    return tmp_path


@pytest.fixture
def reader(folder: Path, prefect_server: str, env: dict[str, str], database: psycopg.Connection) -> Iterator[Terminal]:
    """A terminal in the folder. Roles, users and tables that a page creates are gone afterwards."""
    environment = {**os.environ, **env, "PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(folder)}
    environment |= {"SPILLWAY_MAPPINGS": str(folder / "spillway.toml"), "VIRTUAL_ENV_DISABLE_PROMPT": "1"}
    with closing(Terminal(folder, environment)) as terminal:
        yield terminal
    database.execute("SET client_min_messages = error")
    for name in users_relations(database):
        database.execute(f"DROP TABLE {name} CASCADE".encode())
    if database.execute("SELECT FROM pg_roles WHERE rolname = 'etl'").fetchone():
        database.execute("DROP OWNED BY etl; DROP ROLE etl")


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page_do_what_it_says(
    page: str, reader: Terminal, folder: Path, redis_client: redis.Redis, database: psycopg.Connection, servers: Servers
) -> None:
    prepare.streams(page)(redis_client)
    for command in prepare.TYPED_BEFORE.get(page, ()):
        assert reader.type(command)[0] == 0
    problems = []
    try:
        for block in blocks(page, *RUNNABLE):
            if block.not_run is None:
                problems += _run(block, reader, folder, database, servers.edition)
    finally:
        redis_client.acl_deluser("etl")
    assert not problems, "\n\n".join(problems)


def _run(block: Block, reader: Terminal, folder: Path, database: psycopg.Connection, edition: str) -> list[str]:
    """What a reader does with a block; returns what was not as the page says."""
    if block.language == "sql":
        database.execute(block.text.encode())
    elif block.language == "toml":
        _add_mapping(folder / "spillway.toml", block.text)
    elif block.language == "python":
        (folder / "notebook.py").write_text(block.text)
        code, printed = reader.type("python notebook.py")
        return [f"{block}: exit code {code}\n{printed}"] if code else []
    else:
        return [problem for command in commands(block) if (problem := _type(command, reader, edition))]
    return []


def _type(command: Command, reader: Terminal, edition: str) -> str | None:
    code, printed = reader.type(command.text)
    found = f"{command.where}: {command.text}\nexit code {code}, expected {command.exit_code}\n{printed}"
    if code != command.exit_code:
        return found
    if command.output is not None and not has_shape(printed, _output_on(edition, command.output, printed)):
        return f"{found}\nthe page shows:\n{command.output}"
    return None


def _output_on(edition: str, output: str, printed: str) -> str:
    """What a page shows, on this edition. The pages show the Community edition, the only one that compresses."""
    if edition != "Community" and _COMPRESSES.search(output):
        return printed if "needs the Community edition" in printed else _COMPRESSES.sub("", output)
    return output


def _add_mapping(file: Path, table: str) -> None:
    """Put a table into the file, unless it is in it."""
    header = next(line for line in table.splitlines() if line.startswith("["))
    if header not in file.read_text():
        file.write_text(file.read_text() + "\n" + table)


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    skipped = [block for page in PAGES for block in blocks(page, *RUNNABLE) if block.not_run and page not in _ELSEWHERE]
    assert len(skipped) <= _MOST_NOT_RUN, [f"{block}: {block.not_run}" for block in skipped]


def test_every_block_has_a_language_that_says_what_is_done_with_it() -> None:
    known = {*RUNNABLE, "text", "json"}
    assert [str(block) for page in PAGES for block in blocks(page) if block.language not in known] == []
