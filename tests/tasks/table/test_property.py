"""Whatever a user has done to `events`, each entry is a row, a duplicate, a conflict or quarantined, as predicted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.table.insert import InsertRoute
from tests.support.stream_entries import event
from tests.support.tables import empty_tables
from tests.support.triggers import trigger_sql
from tests.support.user_table import load, quarantined

Alter = Callable[[str], None]

# Each rule rejects one user; the entries of the others go in.
_REJECTING = {
    "a": "ALTER TABLE events ADD CONSTRAINT no_a CHECK (user_id <> 'a')",
    "b": "CREATE INDEX no_b ON events (time) WHERE 1 / (length(user_id) - 2 * (user_id = 'b')::int + 1) < 0",
    "c": "ALTER TABLE events ADD COLUMN no_c int GENERATED ALWAYS AS (1 / (user_id <> 'c')::int) STORED",
    "d": trigger_sql("IF NEW.user_id = 'd' THEN RAISE 'no' USING ERRCODE = '40001'; END IF;", name="no_d"),
    "e": trigger_sql("IF NEW.user_id = 'e' THEN RETURN NULL; END IF;", name="no_e"),
    "f": """CREATE TABLE users.known AS SELECT unnest('{a,b,c,d,e,g,h}'::text[]) AS id;
            ALTER TABLE users.known ADD PRIMARY KEY (id);
            ALTER TABLE events ADD CONSTRAINT no_f FOREIGN KEY (user_id) REFERENCES users.known
                DEFERRABLE INITIALLY DEFERRED""",
}
_HARMLESS = [
    "ALTER TABLE events ADD COLUMN place text NOT NULL DEFAULT 'x'",
    "ALTER TABLE events ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY",
    trigger_sql("NEW.event_type := upper(NEW.event_type);", name="shout"),
    trigger_sql("RETURN NULL;", "AFTER INSERT", name="after_it"),
]
_UNDO = """
    DROP TRIGGER IF EXISTS no_d ON events; DROP TRIGGER IF EXISTS no_e ON events;
    DROP TRIGGER IF EXISTS shout ON events;
    DROP TRIGGER IF EXISTS after_it ON events; DROP INDEX IF EXISTS no_b; ALTER TABLE events DROP COLUMN IF EXISTS no_c,
    DROP COLUMN IF EXISTS place, DROP COLUMN IF EXISTS number, DROP CONSTRAINT IF EXISTS no_a,
    DROP CONSTRAINT IF EXISTS no_f; DROP SCHEMA users CASCADE; CREATE SCHEMA users"""


@dataclass(frozen=True)
class Sent:
    """An entry: the number of its key, its user, and its type."""

    key: int
    user: str
    kind: str


_ENTRIES = st.lists(
    st.builds(Sent, st.integers(1, 8), st.sampled_from("abcdefgh"), st.sampled_from(["click", "view"])),
    min_size=1,
    max_size=14,
)


def predict(batches: list[list[Sent]], rejected: set[str]) -> tuple[dict[int, Sent], list[tuple[int, int, int]]]:
    """The rows by key, and of each batch how many are inserted, duplicates and quarantined."""
    rows: dict[int, Sent] = {}
    counts = []
    for batch in batches:
        inserted = duplicates = kept = 0
        for sent in batch:
            if sent.user not in rejected and sent.key not in rows:
                rows[sent.key] = sent
                inserted += 1
            elif rows.get(sent.key) == sent:
                duplicates += 1
            else:
                kept += 1
        counts.append((inserted, duplicates, kept))
    return rows, counts


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    rejecting=st.sets(st.sampled_from(sorted(_REJECTING))),
    harmless=st.sets(st.integers(0, len(_HARMLESS) - 1)),
    batches=st.lists(_ENTRIES, min_size=1, max_size=3),
    route=st.sampled_from(InsertRoute),
)
def test_every_entry_has_the_outcome_that_the_rules_predict(
    database: psycopg.Connection,
    alter: Alter,
    rejecting: set[str],
    harmless: set[int],
    batches: list[list[Sent]],
    route: InsertRoute,
) -> None:
    empty_tables(database, keep=["spillway.streams"])
    alter(_UNDO)
    for rule in [*(_REJECTING[user] for user in sorted(rejecting)), *(_HARMLESS[n] for n in sorted(harmless))]:
        alter(rule)
    rows, counts = predict(batches, rejecting)
    first = 1
    for batch, expected in zip(batches, counts, strict=True):
        entries = [event(sent.key, user_id=sent.user, event_type=sent.kind) for sent in batch]
        assert load(database, entries, route, first) == expected
        first += len(batch)
    found = database.execute("SELECT ('x' || right(event_id::text, 4))::bit(16)::int, user_id, event_type FROM events")
    shout = str.upper if 2 in harmless else str
    assert {n: (user, kind) for n, user, kind in found} == {n: (r.user, shout(r.kind)) for n, r in rows.items()}
    assert len(quarantined(database)) == sum(kept for _, _, kept in counts)
