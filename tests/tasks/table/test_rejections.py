"""A row that the table rejects is kept in quarantine with the server's reason, and the rows around it go in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from infra.errors.redact import one_line
from tasks.reconcile.compare import compare
from tasks.reconcile.comparison import ComparisonTotals
from tasks.table.insert import InsertRoute
from tasks.table.load import load_batch
from tasks.table.quarantine import Selection
from tasks.table.redrive import replay, replay_batches
from tests.support.oracle import flat_rows, table_rows
from tests.support.servers import Servers
from tests.support.stream_entries import event
from tests.support.triggers import raising, trigger_sql
from tests.support.user_table import ANY_TIME, batch_of, layout_of, load, quarantined

Alter = Callable[[str], None]
BAD = 4  # the number of the event that every rule here rejects, by its user
SECRET = "secret-4"


def row_trigger(action: str, when: str = "BEFORE INSERT") -> str:
    return trigger_sql(f"IF NEW.user_id LIKE 'secret-%' THEN {action} END IF;", when)


@dataclass(frozen=True)
class Rule:
    sql: str
    state: str
    words: str


_USERS = """CREATE TABLE users.known (id text PRIMARY KEY);
            INSERT INTO users.known SELECT 'user-' || n FROM generate_series(0, 9) n"""
RULES = {
    "check": Rule(
        "ALTER TABLE events ADD CONSTRAINT no_secret CHECK (user_id NOT LIKE 'secret-%')", "23514", "no_secret"
    ),
    "foreign key": Rule(
        f"{_USERS}; ALTER TABLE events ADD FOREIGN KEY (user_id) REFERENCES users.known", "23503", "foreign key"
    ),
    "deferred foreign key": Rule(
        f"{_USERS}; ALTER TABLE events ADD FOREIGN KEY (user_id) REFERENCES users.known DEFERRABLE INITIALLY DEFERRED",
        "23503",
        "foreign key",
    ),
    "domain": Rule(
        """CREATE DOMAIN users.open AS text CHECK (value NOT LIKE 'secret-%');
           ALTER TABLE events ALTER user_id TYPE users.open""",
        "23514",
        "open_check",
    ),
    "length": Rule("ALTER TABLE events ALTER user_id TYPE varchar(7)", "22001", "too long"),
    "not null by a generated column": Rule(
        """ALTER TABLE events ADD COLUMN n int NOT NULL
           GENERATED ALWAYS AS (nullif(position('secret' in user_id), 1)) STORED""",
        "23502",
        "null value",
    ),
    "generated column": Rule(
        "ALTER TABLE events ADD COLUMN n int GENERATED ALWAYS AS (1 / (position('secret' in user_id) - 1)) STORED",
        "22012",
        "division by zero",
    ),
    "partial index": Rule(
        "CREATE INDEX ON events (time) WHERE 1 / (position('secret' in user_id) - 1) < 0", "22012", "division by zero"
    ),
    "index expression": Rule(
        "CREATE INDEX ON events ((1 / (position('secret' in user_id) - 1)))", "22012", "division by zero"
    ),
    "trigger": Rule(row_trigger(raising("P0001")), "P0001", "not welcome"),
    "trigger, a SQLSTATE of its own": Rule(row_trigger(raising("ACME1")), "ACME1", "not welcome"),
    "trigger, as a duplicate key": Rule(row_trigger(raising("23505")), "23505", "not welcome"),
    "trigger, as a lost connection": Rule(row_trigger(raising("08006")), "08006", "not welcome"),
    "trigger, as a deadlock": Rule(row_trigger(raising("40P01")), "40P01", "not welcome"),
    "trigger, as a full disk": Rule(row_trigger(raising("53100")), "53100", "not welcome"),
    "trigger, as a limit": Rule(row_trigger(raising("53400")), "53400", "not welcome"),
    "trigger, as a timeout": Rule(row_trigger(raising("57014")), "57014", "not welcome"),
    "trigger, as a shutdown": Rule(row_trigger(raising("57P01")), "57P01", "not welcome"),
    "trigger, as a missing table": Rule(row_trigger(raising("42P01")), "42P01", "not welcome"),
    "trigger, as an internal error": Rule(row_trigger(raising("XX000")), "XX000", "not welcome"),
    "trigger that asserts": Rule(row_trigger("ASSERT false, 'not welcome';"), "P0004", "not welcome"),
    "trigger that reads a missing table": Rule(row_trigger("PERFORM * FROM users.nowhere;"), "42P01", "users.nowhere"),
    "trigger after the row": Rule(row_trigger(raising("P0001"), "AFTER INSERT"), "P0001", "not welcome"),
    "trigger after the row, as a deadlock": Rule(row_trigger(raising("40P01"), "AFTER INSERT"), "40P01", "not welcome"),
    "trigger that skips": Rule(row_trigger("RETURN NULL;"), "", "skipped"),
    "trigger after the statement": Rule(
        trigger_sql(
            """IF EXISTS (SELECT FROM events WHERE user_id LIKE 'secret-%') THEN RAISE EXCEPTION 'not welcome'; END IF;
               RETURN NULL;""",
            "AFTER INSERT",
            each="STATEMENT",
        ),
        "P0001",
        "not welcome",
    ),
}


@pytest.mark.parametrize("route", InsertRoute)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rejected_row_is_quarantined_and_the_others_are_inserted(
    database: psycopg.Connection, alter: Alter, rule: Rule, route: InsertRoute
) -> None:
    alter(rule.sql)
    good = [event(n) for n in range(1, 9) if n != BAD]
    entries = [event(n, user_id=SECRET) if n == BAD else event(n) for n in range(1, 9)]
    assert load(database, [*entries, entries[1]], route) == (7, 1, 1)
    assert table_rows(database) == flat_rows(good)
    kept = quarantined(database)
    assert list(kept) == [BAD]
    kind, reason = kept[BAD]
    assert kind == "refused"
    assert rule.words in reason
    assert rule.state in reason
    # The same entries again: duplicates, and the bad one is rejected again.
    assert load(database, entries, route, first=20) == (0, 7, 1)
    assert table_rows(database) == flat_rows(good)


@pytest.mark.parametrize("rule", ["check", "trigger, as a timeout"])
def test_a_rejected_entry_is_redriven_once_the_rule_is_dropped_and_reconcile_does_not_quote_it(
    database: psycopg.Connection, alter: Alter, rule: str
) -> None:
    alter(RULES[rule].sql)
    entries = [event(1), event(2, user_id=SECRET), event(3)]
    load(database, entries)
    (waiting,) = replay_batches(database, Selection())
    still = replay(database, waiting, layout_of(database), ANY_TIME, {}, "test")
    assert (still.tried, still.inserted, still.still_bad) == (1, 0, 1)
    database.execute("DELETE FROM spillway.quarantine")
    found = compare(database, batch_of(database, entries), repair=True)
    assert list(found.counts.values()) == [1]
    (finding,) = ComparisonTotals().plus(found).findings("s", "public.events")
    assert SECRET not in repr(finding)
    load(database, [entries[1]], first=30)
    alter("DROP TRIGGER IF EXISTS on_events ON events; ALTER TABLE events DROP CONSTRAINT IF EXISTS no_secret")
    (waiting,) = replay_batches(database, Selection())
    done = replay(database, waiting, layout_of(database), ANY_TIME, {}, "test")
    assert (done.tried, done.inserted, done.still_bad) == (1, 1, 0)
    assert table_rows(database) == flat_rows(entries)


@pytest.mark.parametrize("route", InsertRoute)
def test_a_row_that_another_unique_index_rejects_is_not_a_duplicate(
    database: psycopg.Connection, alter: Alter, route: InsertRoute
) -> None:
    alter("CREATE UNIQUE INDEX one_per_user ON events (user_id, time)")
    taken = {"user_id": "user-1", "time": event(1)[b"time"].decode()}
    entries = [event(1), event(2), event(3, **taken), event(1), event(4)]
    assert load(database, entries, route) == (3, 1, 1)
    assert table_rows(database) == flat_rows([event(1), event(2), event(4)])
    kind, reason = quarantined(database)[3]
    assert kind == "refused"
    assert "one_per_user" in reason


def test_an_exclusion_constraint_on_a_chunk_rejects_a_row(database: psycopg.Connection, alter: Alter) -> None:
    """A hypertable accepts such a constraint only with the time; it then acts like a unique index."""
    alter("ALTER TABLE events ADD CONSTRAINT apart EXCLUDE USING btree (user_id WITH =, time WITH =)")
    taken = {"user_id": "user-1", "time": event(1)[b"time"].decode()}
    assert load(database, [event(1), event(2), event(3, **taken)]) == (2, 0, 1)
    assert "apart" in quarantined(database)[3][1]


@pytest.mark.parametrize("rule", ["check", "trigger, as a deadlock", "trigger that skips"])
def test_a_batch_with_every_other_row_rejected_takes_one_pass_on_the_server(
    database: psycopg.Connection, alter: Alter, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter(RULES[rule].sql)
    entries = [event(n, user_id=f"secret-{n}") if n % 2 else event(n) for n in range(4_000)]
    waits = 0
    wait = psycopg.Connection.wait

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal waits
        waits += 1
        return wait(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Connection, "wait", counted)
        assert load(database, entries) == (2_000, 0, 2_000)
    assert waits < 200, "a round trip for each rejected row"
    assert table_rows(database) == flat_rows(entries[::2])


def test_an_error_of_the_server_is_not_the_fault_of_a_row(
    servers: Servers, database: psycopg.Connection, alter: Alter
) -> None:
    """After a lock timeout, a statement timeout or a missing privilege, nothing is recorded or quarantined."""
    alter("CREATE TABLE users.busy ()")
    alter(row_trigger("LOCK TABLE users.busy; PERFORM pg_sleep(3);"))
    entries = [event(n, user_id=f"secret-{n}") for n in range(3)]
    with psycopg.connect(servers.settings.database) as other:
        other.execute("LOCK TABLE users.busy")
        database.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            load(database, entries)
    database.execute("SET lock_timeout = 0; SET statement_timeout = '500ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        load(database, entries)
    database.execute("SET statement_timeout = 0; DROP TRIGGER on_events ON events")
    alter("REVOKE ALL ON events FROM PUBLIC; CREATE ROLE spillway_reader; GRANT SELECT ON events TO spillway_reader")
    alter(
        "GRANT ALL ON SCHEMA spillway TO spillway_reader; GRANT ALL ON ALL TABLES IN SCHEMA spillway TO spillway_reader"
    )
    try:
        database.execute("SET ROLE spillway_reader")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            load_batch(database, batch_of(database, [event(n) for n in range(100)]), "test", InsertRoute.STRAIGHT)
    finally:
        database.execute("RESET ROLE; DROP OWNED BY spillway_reader; DROP ROLE spillway_reader")
    assert table_rows(database) == {}
    assert quarantined(database) == {}
    assert database.execute("SELECT FROM spillway.ledger").fetchall() == []


@pytest.mark.parametrize("state", ["P0001", "22P02", "23505", "40P01", "42P01"])
def test_no_message_quotes_what_a_function_raises(database: psycopg.Connection, alter: Alter, state: str) -> None:
    alter(f"""CREATE FUNCTION users.fail() RETURNS void LANGUAGE plpgsql AS
              $$ BEGIN RAISE EXCEPTION 'no {SECRET}' USING ERRCODE = '{state}', DETAIL = '{SECRET}'; END $$""")
    with pytest.raises(psycopg.Error) as raised:
        database.execute("SELECT users.fail()")
    assert SECRET not in one_line(raised.value)
    assert state in one_line(raised.value)


def test_no_message_quotes_the_row_that_a_constraint_rejects(database: psycopg.Connection, alter: Alter) -> None:
    alter(RULES["check"].sql)
    with pytest.raises(psycopg.errors.CheckViolation) as raised:
        database.execute("INSERT INTO events VALUES (now(), gen_random_uuid(), 'a', %s)", [SECRET])
    assert SECRET in str(raised.value)
    assert SECRET not in one_line(raised.value)
    assert "no_secret" in one_line(raised.value)
