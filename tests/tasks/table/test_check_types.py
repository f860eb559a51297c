"""Rows that the type of a column rejects have the same reasons whether a COPY names them one by one or all at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest

from infra.mapping.column_source import key_source
from infra.mapping.stream_mapping import BUILT_IN
from infra.tables.read_table import default_table_name, read_table
from tasks.base.addresses import IdRange
from tasks.columns.batch import Batch
from tasks.columns.entries import page_to_columns
from tasks.columns.row_layout import bind
from tasks.table import stage
from tasks.table.check_types import MistypedRow, find_mistyped
from tasks.table.insert import InsertRoute
from tasks.table.load import load_batch
from tests.support.oracle import flat_rows, table_rows
from tests.support.stream_entries import event
from tests.support.user_table import ANY_TIME, STREAM

Alter = Callable[[str], None]
Entry = dict[bytes, bytes]
Columns = dict[str, tuple[str, str, str]]
# By column: its type, a good value, and a value that only the server rejects.
BINARY: Columns = {
    "properties": ("jsonb", '{"n": 1}', '{"n": 1'),
    "document": ("json", "[1, 2]", "[1, 2,"),
    "short": ("varchar(5)", "12345", "123456"),
    "padded": ("char(3)", "né", "long"),
    "price": ("numeric(5,2)", "123.45", "12345.6"),
    "mood": ("users.mood", "calm", "angry"),
    "positive": ("users.positive", "7", "-7"),
    "nested": ("users.tag", "ok", "not ok"),
}
TEXT: Columns = {
    "during": ("int4range", "[1,5)", "[5,1)"),
    "spot": ("point", "(1,2)", "(1,"),
    "lasting": ("interval", "2 days", "two days"),
    "pair": ("users.pair", "(1,x)", "(one,x)"),
    "bits": ("bit(3)", "101", "1010"),
    "prices": ("numeric(4,1)[]", "{1.5,22.5}", "{1.5,12345}"),
}
_TYPES = """
    CREATE TYPE users.mood AS ENUM ('calm', 'happy');
    CREATE DOMAIN users.positive AS int CHECK (value > 0);
    CREATE DOMAIN users.word AS varchar(5);
    CREATE DOMAIN users.tag AS users.word CHECK (value NOT LIKE '% %');
    CREATE TYPE users.pair AS (n int, word text)"""


def _batch(database: psycopg.Connection, entries: list[Entry], first: int) -> Batch:
    table = read_table(database, default_table_name())
    own = {name: key_source(name) for name in {**BINARY, **TEXT} if name in table.by_name and name != "properties"}
    page = [
        (b"%d-0" % number, [part for pair in entry.items() for part in pair])
        for number, entry in enumerate(entries, first)
    ]
    ids = IdRange(first << 64, (first + len(entries)) << 64)
    return Batch(STREAM, ids, page_to_columns(page), bind(replace(BUILT_IN, columns=own), table), ANY_TIME)


def _load(
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    entries: list[dict[bytes, bytes]],
    few: int,
    first: int,
) -> tuple[dict[int, tuple[str, str]], list[MistypedRow]]:
    """Load entries, all rejections after the first `few` found at once. The quarantine by entry, and what was found."""
    found: list[MistypedRow] = []

    def find(*arguments: object) -> list[MistypedRow]:
        rows = find_mistyped(*arguments)  # type: ignore[arg-type]
        found.extend(rows)
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(stage, "_FEW_FAILURES", few)
        patched.setattr(stage, "find_mistyped", find)
        load_batch(database, _batch(database, entries, first), "test", InsertRoute.MERGE)
    query = "SELECT split_part(entry_id, '-', 1)::int - %s, field, reason FROM spillway.quarantine"
    kept = {number: (field, reason) for number, field, reason in database.execute(query, [first])}
    database.execute("DELETE FROM spillway.quarantine")
    return kept, found


@pytest.mark.parametrize("columns", [BINARY, BINARY | TEXT], ids=["binary", "text"])
def test_the_reasons_and_the_rows_are_the_same(
    database: psycopg.Connection,
    alter: Alter,
    monkeypatch: pytest.MonkeyPatch,
    columns: dict[str, tuple[str, str, str]],
) -> None:
    alter(_TYPES)
    for name, (kind, _, _) in columns.items():
        if name != "properties":
            alter(f"ALTER TABLE events ADD COLUMN {name} {kind}")
    good = {name: value for name, (_, value, _) in columns.items()}
    entries = [event(0, **good)]
    for name, (_, _, bad) in columns.items():
        entries += [event(len(entries), **good | {name: bad}), event(len(entries) + 1, **good)]
    entries.append(
        event(len(entries), **good | {name: bad for name, (_, _, bad) in columns.items()})
    )  # the first counts
    entries.append(event(len(entries)))  # the other columns are null
    rejected = {2 * position + 1: name for position, name in enumerate(columns)} | {2 * len(columns) + 1: "properties"}

    one_by_one, found = _load(database, monkeypatch, entries, 1_000, first=100)
    assert found == []
    assert {number: field for number, (field, _) in one_by_one.items()} == rejected
    rows = table_rows(database)
    assert rows == flat_rows(entry for number, entry in enumerate(entries) if number not in rejected)
    database.execute("DELETE FROM events")

    at_once, found = _load(database, monkeypatch, entries, 0, first=200)
    assert {one.position for one in found} == rejected.keys()
    assert at_once == one_by_one
    assert table_rows(database) == rows


def test_after_a_few_rejections_the_others_are_found_at_once(
    database: psycopg.Connection, alter: Alter, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [event(n, properties="{" if n % 2 else "[]") for n in range(40)]
    at_once, found = _load(database, monkeypatch, entries, 3, first=300)
    assert len(found) == 17
    assert at_once.keys() == set(range(1, 40, 2))
    assert {field for field, _ in at_once.values()} == {"properties"}
    assert table_rows(database) == flat_rows(entries[::2])
