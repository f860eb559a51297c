"""Every mapping that a page shows is loaded, and makes the rows that the page shows of the entries that it shows."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from infra.mapping.toml import load_mappings
from tests.docs.pages import PAGES, Block, blocks

_TIME = datetime(2026, 11, 25, 10, 0, 0, tzinfo=UTC)
_UUID = "5f0c0000-0000-4000-8000-000000000001"
_CREATED = re.compile(r"CREATE TABLE (\w+)")
_ID = "*"  # in an entry of a page: its id


@dataclass(frozen=True)
class Example:
    """A mapping of a page with what is around it: the tables, the entries, and the rows that they become."""

    mapping: Block
    create: str
    entries: tuple[dict[str, Any], ...]
    rows: tuple[dict[str, Any], ...]

    @property
    def tables(self) -> list[str]:
        """The tables that the page creates for it."""
        return _CREATED.findall(self.create)


def examples(page: str) -> Iterator[Example]:
    """The mappings of a page that have a table before them, and an entry and a row after them."""
    found = blocks(page)
    for create, mapping, entries, rows in zip(found, found[1:], found[2:], found[3:], strict=False):
        if [block.language for block in (create, mapping, entries, rows)] == ["sql", "toml", "json", "json"]:
            yield Example(mapping, create.text, _lines(entries), _lines(rows))


def _lines(block: Block) -> tuple[dict[str, Any], ...]:
    return tuple(map(json.loads, block.text.splitlines()))


EXAMPLES = [example for page in PAGES for example in examples(page)]
SHOWN = [block for page in PAGES for block in blocks(page, "toml")]
# Mappings onto `events` without an entry on the page.
FOR_EVENTS = [
    block for block in SHOWN if "[tables." not in block.text and block not in [one.mapping for one in EXAMPLES]
]


class _Fields(dict[str, str]):
    """An entry that has whatever key a mapping reads."""

    def __missing__(self, key: str) -> str:
        self[key] = f"value of {key}"
        return self[key]


@dataclass(frozen=True)
class FittingEntry:
    """An entry for a section of spillway.toml, and the row that it becomes: by the TOML and Python's templates."""

    fields: dict[str, str]
    row: tuple[datetime, str, str]
    event_id: str | None  # None if it is made from a text


def fitting_entry(table: dict[str, Any]) -> FittingEntry:
    """An entry with every key that `table` reads."""
    fields = _Fields()
    fields[table["time"]] = _TIME.strftime("%Y-%m-%dT%H:%M:%SZ")
    event_id = table["event_id"] if isinstance(table["event_id"], str) else None
    if event_id:
        fields[event_id] = _UUID
    texts = []
    for column in (table["event_id"], table["event_type"], table["user_id"]):
        key = column if isinstance(column, str) else column["key"]
        texts.append(key.format_map(fields) if "{" in key else fields[key])
    document: dict[str, Any] = dict(fields)
    if properties := table.get("properties"):
        document[properties] = {"page": "/"}
        fields[properties] = json.dumps(document[properties])
    sent = dict(fields) if table["layout"] == "flat" else {table.get("field", "data"): json.dumps(document)}
    return FittingEntry(sent, (_TIME, texts[1], texts[2]), _UUID if event_id else None)


@pytest.fixture
def use(configure: Callable[..., Any], tmp_path: Path) -> Callable[[Block], None]:
    """Make a block the mapping file."""

    def use_it(block: Block) -> None:
        file = tmp_path / "spillway.toml"
        file.write_text(block.text)
        configure(mappings=file)

    return use_it


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example.mapping))
def test_the_entries_of_a_page_become_the_rows_that_it_shows(
    example: Example, use: Callable[[Block], None], redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    from flows.drain import drain

    use(example.mapping)
    (pattern,) = tomllib.loads(example.mapping.text)["streams"]
    stream = pattern.replace("*", "-docs")
    for entry in example.entries:
        fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in entry.items()}
        redis_client.xadd(stream, fields, id=fields.pop(_ID, "*"))  # type: ignore[arg-type]
    database.execute("SET timezone = 'UTC'")
    try:
        database.execute(example.create.encode())
        drain(stream)
        found = []
        for name in example.tables:
            found += [str(row) for (row,) in database.execute(f"SELECT to_jsonb(t) FROM {name} AS t".encode())]
        assert sorted(found) == sorted(str(_sorted(row)) for row in example.rows)
    finally:
        database.execute(f"DROP TABLE IF EXISTS {', '.join(example.tables)}".encode())


def _sorted(row: dict[str, Any]) -> dict[str, Any]:
    """The members of a row as `jsonb` orders them: by the length of their names, then by the names."""
    return {
        name: _sorted(value) if isinstance(value, dict) else value
        for name, value in sorted(row.items(), key=lambda member: (len(member[0].encode()), member[0]))
    }


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("block", FOR_EVENTS, ids=str)
def test_a_mapping_of_a_page_drains_an_entry_that_fits_it(
    block: Block, use: Callable[[Block], None], redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    from flows.drain import drain

    use(block)
    for pattern, table in tomllib.loads(block.text)["streams"].items():
        entry = fitting_entry(table)
        stream = pattern.replace("*", "-docs")
        redis_client.xadd(stream, entry.fields)  # type: ignore[arg-type]
        database.execute("DELETE FROM events")
        drain(stream)
        (found,) = database.execute("SELECT time, event_type, user_id, event_id FROM events").fetchall()
        assert found[:3] == entry.row
        assert entry.event_id in (None, str(found[3]))


@pytest.mark.parametrize("block", SHOWN, ids=str)
def test_every_toml_of_a_page_is_valid(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "spillway.toml"
    file.write_text(block.text)
    load_mappings(file)


def test_every_option_of_a_column_and_a_stream_is_in_an_example() -> None:
    from infra.mapping.toml_column import COLUMN_KEYS
    from infra.mapping.toml_stream import OPTIONS

    shown = "\n".join(example.mapping.text for example in EXAMPLES)
    assert [name for name in (*COLUMN_KEYS, *OPTIONS) if not re.search(rf"\b{name}\b", shown)] == []
