"""Many rows that CHECK constraints reject have the same reasons whether or not Spillway guesses which ones they are."""

from __future__ import annotations

import re
from collections.abc import Callable

import psycopg
import pytest

from tasks.table import isolate
from tasks.table.insert import InsertRoute
from tests.support.oracle import flat_rows, table_rows
from tests.support.stream_entries import event
from tests.support.user_table import load

Alter = Callable[[str], None]
CONSTRAINTS = {
    "of columns that are sent": """
        ALTER TABLE events ADD CONSTRAINT no_secret CHECK (user_id NOT LIKE 'secret-%{}%'),
              ADD CONSTRAINT no_error CHECK (NOT (properties ? 'error') AND event_type <> ''),
              ADD CONSTRAINT no_fraction CHECK (1 / (CASE event_type WHEN 'zero' THEN 0 ELSE 1 END) = 1)""",
    "of one that is not": """
        ALTER TABLE events ADD COLUMN length int GENERATED ALWAYS AS (length(user_id)) STORED,
              ADD CONSTRAINT no_secret CHECK (length < 9 OR user_id NOT LIKE 'secret-%'),
              ADD CONSTRAINT no_error CHECK (NOT (properties ? 'error')),
              ADD CONSTRAINT no_fraction CHECK (1 / (CASE event_type WHEN 'zero' THEN 0 ELSE 1 END) = 1)""",
}
BAD = {
    1: ({"user_id": "secret-{}-1"}, "no_secret"),
    3: ({"properties": '{"error": 1}'}, "no_error"),
    4: ({"event_type": "zero"}, "division by zero"),
}
ROWS = 70


@pytest.mark.parametrize("kinds", [(1, 3), (1, 3, 4)], ids=["violations", "violations and an error"])
@pytest.mark.parametrize("constraints", CONSTRAINTS.values(), ids=CONSTRAINTS)
def test_the_reasons_and_the_rows_are_the_same(
    database: psycopg.Connection,
    alter: Alter,
    monkeypatch: pytest.MonkeyPatch,
    constraints: str,
    kinds: tuple[int, ...],
) -> None:
    alter(constraints)
    bad = {n: BAD[n % 7] for n in range(ROWS) if n % 7 in kinds}
    entries = [event(n, **bad[n][0]) if n in bad else event(n) for n in range(ROWS)]
    # The first has the key of a rejected row, and takes its place; the second that of another row, a conflict.
    late = [event(1, event_type="late"), event(2, event_type="late")]
    expected = flat_rows([*(entry for n, entry in enumerate(entries) if n not in bad), late[0]])

    def kept(route: InsertRoute, first: int) -> dict[int, tuple[str, str, str]]:
        assert load(database, [*entries, *late], route, first) == (ROWS - len(bad) + 1, 0, len(bad) + 1)
        assert table_rows(database) == expected
        query = "SELECT split_part(entry_id, '-', 1)::int - %s, kind, field, reason FROM spillway.quarantine"
        found = {n: (kind, field, reason) for n, kind, field, reason in database.execute(query, [first])}
        database.execute("DELETE FROM events; DELETE FROM spillway.quarantine")
        return found

    guessed = [kept(route, first) for route, first in zip(InsertRoute, (100, 200), strict=True)]
    with monkeypatch.context() as patched:
        patched.setattr(isolate, "_guess", lambda *_: None)
        unguessed = kept(InsertRoute.MERGE, 300)
    assert guessed == [unguessed, unguessed]
    assert unguessed.keys() == {*bad, ROWS + 1}
    for n in bad:
        assert bad[n][1] in unguessed[n][2]
        assert re.search(r"Failing row contains \(.*\)\. \[23514\]|division by zero \[22012\]", unguessed[n][2])
    assert {n: kind for n, (kind, _, _) in unguessed.items()} == dict.fromkeys(bad, "refused") | {ROWS + 1: "conflict"}
