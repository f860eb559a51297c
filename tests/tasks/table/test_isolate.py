"""Many rows that CHECK constraints reject have the same reasons whether each is tried or only the first of them."""

from __future__ import annotations

import re
from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from tasks.table import check_constraints, isolate
from tasks.table.insert import InsertRoute
from tests.support.oracle import flat_rows, table_rows
from tests.support.stream_entries import event
from tests.support.user_table import load, quarantined

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

    predicted = [kept(route, first) for route, first in zip(InsertRoute, (100, 200), strict=True)]
    with monkeypatch.context() as patched:
        patched.setattr(isolate, "find_suspects", lambda *_: None)
        tried = kept(InsertRoute.MERGE, 300)
    assert predicted == [tried, tried]
    assert tried.keys() == {*bad, ROWS + 1}
    for n in bad:
        assert bad[n][1] in tried[n][2]
        assert re.search(r"Failing row contains \(.*\)\. \[23514\]|division by zero \[22012\]", tried[n][2])
    assert {n: kind for n, (kind, _, _) in tried.items()} == dict.fromkeys(bad, "refused") | {ROWS + 1: "conflict"}


# By what the columns that are not sent have: their types, and whether the first row speaks for the others.
UNSENT = {
    "nothing": ("ADD COLUMN note text, ADD COLUMN amount numeric(5,2)", True),
    "very many": (", ".join(f"ADD COLUMN extra_{n} int" for n in range(120)), True),
    "a constant": ("ADD COLUMN note text NOT NULL DEFAULT 'a, \"b\" (%)', ADD COLUMN flag bool DEFAULT true", True),
    "the time of the transaction": ("ADD COLUMN loaded_at timestamptz NOT NULL DEFAULT now()", True),
    "a random value": ("ADD COLUMN mark uuid DEFAULT gen_random_uuid()", False),
    "a number of a sequence": ("ADD COLUMN number bigserial", False),
    "an identity": ("ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY", False),
}


def _tried(database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, entries: list[dict[bytes, bytes]]) -> int:
    """Load entries; how many that violate a constraint were tried one by one."""
    found: list[int] = []

    def explain(
        connection: psycopg.Connection, not_inserted: sql.Identifier
    ) -> tuple[list[check_constraints.RejectedLike], list[int]]:
        tried = connection.execute("SELECT count(*) FROM pg_temp.spillway_suspect WHERE alone").fetchone()
        explained, others = check_constraints.explain_suspects(connection, not_inserted)
        found.append((tried or (0,))[0] + len(others))
        return explained, others

    with monkeypatch.context() as patched:
        patched.setattr(isolate, "explain_suspects", explain)
        load(database, entries)
    return sum(found)


@pytest.mark.parametrize(("columns", "speaks"), UNSENT.values(), ids=UNSENT)
def test_the_first_row_speaks_for_the_others_only_if_the_whole_row_is_known(
    database: psycopg.Connection, alter: Alter, monkeypatch: pytest.MonkeyPatch, columns: str, speaks: bool
) -> None:
    alter(f"ALTER TABLE events {columns}, ADD CONSTRAINT no_secret CHECK (user_id NOT LIKE 'secret-%')")
    users = [f"secret-{n}{'-' * (n % 2)}{'ü' * 70}" for n in range(10)]  # of some, 64 bytes end within a character
    entries = [
        entry
        for n, user in enumerate(users)
        for entry in (
            event(n, user_id=user, time=f"2026-11-{n + 10}T12:00:00Z", **{"properties": ""} if n % 3 else {}),
            event(100 + n),
        )
    ]
    assert _tried(database, monkeypatch, entries) == (1 if speaks else 10)
    assert table_rows(database) == flat_rows(entries[1::2])
    reasons = [reason for _, (_, reason) in sorted(quarantined(database).items())]
    assert len(reasons) == 10
    for reason, user in zip(reasons, users, strict=True):
        cut = user.encode()[:64].decode(errors="ignore")
        assert reason.startswith('new row for relation "events" violates check constraint "no_secret": Failing row')
        assert f", {cut}..., " in reason


def test_a_constraint_that_reads_the_table_is_judged_row_by_row(
    database: psycopg.Connection, alter: Alter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it finds changes while the other rows are inserted."""
    alter("""
        CREATE FUNCTION users.welcome(name text) RETURNS bool LANGUAGE sql STABLE AS
        $$ SELECT name NOT LIKE 'guest-%' OR EXISTS (SELECT FROM public.events WHERE user_id = 'host') $$;
        ALTER TABLE events ADD CONSTRAINT hosted CHECK (users.welcome(user_id))""")
    guests = [event(n, user_id=f"guest-{n}") for n in range(5)]
    host = event(9, user_id="host")
    assert _tried(database, monkeypatch, [*guests, host]) == 5
    assert table_rows(database) == flat_rows([*guests, host])
    assert quarantined(database) == {}
