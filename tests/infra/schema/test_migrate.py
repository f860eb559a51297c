"""The schema is applied and upgraded script by script, with the data that is in the database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from infra.errors.exceptions import Terminal, Transient
from infra.schema.migrate import apply_schema
from infra.schema.schema_version import installed_schema, needed_version
from infra.schema.scripts import Script, migrations, scripts
from infra.settings import Settings
from infra.tables.read_table import default_table_name, read_table
from tests.support.catalog import apply_with_psql, catalog, run_psql
from tests.support.instances import free_port

RELEASES = Path(__file__).parent.parent / "schema_releases"
FIRST, PREVIOUS = RELEASES / "first.sql", RELEASES / "previous.sql"
# What a drain of the first release left: two ranges, a duplicate, an entry in quarantine.
FIRST_ROWS = """
    INSERT INTO events VALUES ('2024-01-02', '00000000-0000-0000-0000-000000000001', 't', 'u', '{"a": 1}'),
                              ('2024-01-03', '00000000-0000-0000-0000-000000000002', 't', 'u', NULL);
    INSERT INTO spillway.streams (name, baseline, settled_id, settled_entries_added, settled_at)
    VALUES ('web', 5, 40, 9, '2024-01-04Z');
    INSERT INTO spillway.ledger (stream, ids, read, inserted, duplicates, quarantined, bytes, loaded_by)
    VALUES (1, '[10,20)', 2, 1, 1, 0, 100, 'run 1'), (1, '[20,41)', 2, 1, 0, 1, 100, 'run 2');
    INSERT INTO spillway.quarantine (stream, entry_id, fields, field, reason)
    VALUES (1, '0-30', '{"\\\\x61","\\\\x62"}', 'time', 'not a time');"""
# What the previous release has besides: lost entries, some accepted; a merged range; a file of an archive; drops.
PREVIOUS_ROWS = (
    FIRST_ROWS
    + """
    UPDATE spillway.streams SET lost = 3, accepted = 2, accepted_by = 'ann', accepted_at = '2024-01-05Z',
                                settled_hash = '\\x01';
    UPDATE spillway.ledger SET ranges = 7, lost = 3, lost_ids = '[10,15)', seconds = 1.5 WHERE ids @> 10::numeric;
    UPDATE spillway.quarantine SET outcome = 'redriven', replayed = fields, resolved_by = 'bob', resolved_at = now();
    INSERT INTO spillway.streams (name, baseline) VALUES ('file:00', 0);
    INSERT INTO spillway.files (stream, path, mapping, reading, rows, own) VALUES (2, 'f.csv', 'm', 'r', 2, '{a}');
    INSERT INTO spillway.drops (chunk, range_end, rows, dropped_by) VALUES ('c', '2023-01-01Z', 4, 'maintain');"""
)
# The same as this release writes it.
ROWS = (
    PREVIOUS_ROWS.replace("stream, ids, read, ins", "stream, ids, rows, read, ins")
    .replace("', 2, 1,", "', 2, 2, 1,")
    .replace("drops (chunk", """drops ("table", chunk""")
    .replace("('c', '2023", """('"public"."events"', 'c', '2023""")
)
TABLES = ("events", "spillway.streams", "spillway.ledger", "spillway.quarantine")
LATER_TABLES = ("spillway.files", "spillway.drops", "spillway.instance")


def rows(url: str, tables: tuple[str, ...]) -> dict[str, list[dict[str, object]]]:
    """Every row of `tables` by column, so that a new column does not hide a changed one."""
    found = {}
    with psycopg.connect(url) as connection:
        for table in tables:
            query = f"SELECT to_jsonb(t) FROM {table} AS t ORDER BY t::text"
            found[table] = [row[0] for row in connection.execute(query.encode()).fetchall()]
    return found


def version_of(url: str) -> int:
    with psycopg.connect(url) as connection:
        return installed_schema(connection).version


@contextmanager
def session_waits_for_the_schema_lock(url: str) -> Iterator[None]:
    """In the block no other session can apply the schema: this one holds the lock."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('spillway schema'))")
        yield


def test_a_new_database_gets_every_migration_in_order(empty_database: str) -> None:
    apply_schema(empty_database)
    with psycopg.connect(empty_database) as connection:
        recorded = connection.execute("SELECT version, name FROM spillway.schema_version ORDER BY 1").fetchall()
    assert recorded == [(one.version, one.name) for one in migrations()]
    assert version_of(empty_database) == needed_version() == len(recorded)


@pytest.mark.parametrize("by_psql", [True, False], ids=["psql", "spillway"])
@pytest.mark.parametrize(
    ("release", "statements", "tables"),
    [(FIRST, FIRST_ROWS, TABLES), (PREVIOUS, PREVIOUS_ROWS, TABLES + LATER_TABLES)],
    ids=["first", "previous"],
)
def test_a_database_of_an_earlier_release_is_upgraded_and_keeps_its_rows(
    empty_database: str, release: Path, statements: str, tables: tuple[str, ...], by_psql: bool
) -> None:
    apply_with_psql(empty_database, release)
    with psycopg.connect(empty_database) as connection:
        connection.execute(statements.encode())
    assert version_of(empty_database) == 0
    before = rows(empty_database, tables)
    if by_psql:
        apply_with_psql(empty_database)
    else:
        apply_schema(empty_database)
    after = rows(empty_database, tables)
    for table in tables:
        assert len(after[table]) == len(before[table]) > 0
        for old, new in zip(before[table], after[table], strict=True):
            assert old.items() <= new.items()
    assert version_of(empty_database) == needed_version()


@pytest.mark.parametrize("release", [FIRST, PREVIOUS], ids=["first", "previous"])
def test_an_upgraded_database_has_the_same_tables_as_a_new_one(empty_database: str, release: Path) -> None:
    apply_schema(empty_database)
    new = catalog(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA spillway CASCADE")
        connection.execute("DROP TABLE events")
    apply_with_psql(empty_database, release)
    apply_schema(empty_database)
    assert catalog(empty_database) == new


VERSION_8 = 10  # scripts: the preamble, events, versions 1 to 8


def rows_of_version_8(url: str, events: str = "public") -> None:
    """What a drain of the release before streams had tables left."""
    apply_schema(url, scripts(sql.Identifier(events, "events"))[:VERSION_8])
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("SET LOCAL search_path = {}, public").format(sql.Identifier(events)))
        connection.execute(PREVIOUS_ROWS.encode())


@pytest.mark.parametrize("events", ["public", 'My "own" 5%'])
def test_streams_and_drops_of_an_earlier_release_are_those_of_events(
    empty_database: str, configure: Callable[..., Settings], events: str
) -> None:
    """The name is the one that every later release finds the table by. A range has as many rows as entries."""
    configure(events_schema=events)
    rows_of_version_8(empty_database, events)
    apply_schema(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        name = default_table_name()
        assert read_table(connection, name).regclass == name
        for table in ("streams", "drops"):
            assert set(connection.execute(f'SELECT "table" FROM spillway.{table}'.encode())) == {(name,)}
        assert connection.execute("SELECT read, rows FROM spillway.ledger ORDER BY ids").fetchall() == [(2, 2), (2, 2)]
        assert connection.execute("SELECT entry_id, part FROM spillway.quarantine").fetchall() == [("0-30", 0)]


def test_a_stream_without_a_table_gets_none_when_the_schema_is_applied_again(empty_database: str) -> None:
    """Only an upgrade from an earlier release knows that its rows went into events."""
    apply_schema(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("INSERT INTO spillway.streams (name, baseline) VALUES ('new', 0)")
        apply_schema(empty_database)
        assert connection.execute('SELECT "table" FROM spillway.streams').fetchall() == [(None,)]


@pytest.mark.parametrize("valid", [True, False])
def test_an_upgrade_keeps_a_wrong_count_of_an_earlier_release(empty_database: str, valid: bool) -> None:
    """The check of counts is not applied to rows that it has never applied to, and afterwards it is as it was."""
    rows_of_version_8(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        if not valid:
            connection.execute(
                "ALTER TABLE spillway.ledger DROP CONSTRAINT ledger_counts; UPDATE spillway.ledger SET inserted = 4,"
                " duplicates = -2, quarantined = 0"
            )
        apply_schema(empty_database)
        found = connection.execute("SELECT rows, duplicates < 0 FROM spillway.ledger").fetchall()
        assert found == [(2, not valid)] * 2
        query = "SELECT convalidated FROM pg_constraint WHERE conname = 'ledger_counts'"
        assert connection.execute(query).fetchall() == [(valid,)]
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("UPDATE spillway.ledger SET bytes = -1")


def test_a_wrong_count_of_an_earlier_release_stays_on_record_and_new_ones_are_refused(empty_database: str) -> None:
    apply_with_psql(empty_database, FIRST)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("INSERT INTO spillway.streams (name, baseline, lost) VALUES ('web', 0, -1)")
        apply_schema(empty_database)
        assert connection.execute("SELECT lost FROM spillway.streams").fetchall() == [(-1,)]
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("INSERT INTO spillway.streams (name, baseline, lost) VALUES ('other', 0, -1)")
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("INSERT INTO spillway.streams (name, baseline, accepted) VALUES ('other', 0, 1)")


def test_the_search_path_of_the_session_does_not_matter(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(empty_database) as connection:
        connection.execute("CREATE SCHEMA mine; CREATE TABLE mine.events (); CREATE TABLE mine.ledger ()")
    monkeypatch.setenv("PGOPTIONS", "-c search_path=mine,public")
    apply_with_psql(empty_database)
    apply_schema(empty_database)
    monkeypatch.delenv("PGOPTIONS")
    with psycopg.connect(empty_database) as connection:
        found = connection.execute(
            "SELECT schemaname || '.' || tablename FROM pg_tables WHERE tablename IN ('events', 'ledger') ORDER BY 1"
        ).fetchall()
        extension = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'timescaledb'"
        assert connection.execute(extension).fetchone() == ("public",)
    assert [row[0] for row in found] == ["mine.events", "mine.ledger", "public.events", "spillway.ledger"]


def test_applied_again_it_changes_no_row_and_no_version(empty_database: str) -> None:
    apply_schema(empty_database)
    with psycopg.connect(empty_database) as connection:
        connection.execute(ROWS.encode())
    tables = (*TABLES, *LATER_TABLES, "spillway.schema_version")
    before = rows(empty_database, tables)
    apply_schema(empty_database)
    apply_with_psql(empty_database)
    assert rows(empty_database, tables) == before


def test_a_missing_table_is_created_again(empty_database: str) -> None:
    apply_schema(empty_database)
    whole = catalog(empty_database)
    with psycopg.connect(empty_database) as connection:
        connection.execute("DROP TABLE events")  # before 2.20 a hypertable can only be dropped alone
        connection.execute("DROP TABLE spillway.drops, spillway.files")
    apply_schema(empty_database)
    assert catalog(empty_database) == whole


def test_a_newer_database_is_refused_and_nothing_is_changed(empty_database: str) -> None:
    apply_schema(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO spillway.schema_version (version, name) VALUES (%s, 'later')", [needed_version() + 1]
        )
        connection.execute("DROP TABLE spillway.drops")
    newer = r"newer than this release of Spillway: expected version \d+ or earlier, found \d+"
    with pytest.raises(Terminal, match=newer + r" \(nothing was changed; upgrade Spillway\)"):
        apply_schema(empty_database)
    done = run_psql(empty_database)
    assert (done.returncode, bool(re.search(newer, done.stderr))) == (3, True)
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT to_regclass('spillway.drops')").fetchone() == (None,)
    assert version_of(empty_database) == needed_version() + 1


@pytest.mark.parametrize("release", [None, FIRST], ids=["new", "first release"])
def test_several_that_apply_it_at_the_same_moment_take_turns(empty_database: str, release: Path | None) -> None:
    if release is not None:
        apply_with_psql(empty_database, release)
    apply_again = [apply_schema, apply_with_psql, apply_schema, apply_with_psql]
    with ThreadPoolExecutor(len(apply_again)) as pool:
        with session_waits_for_the_schema_lock(empty_database):  # so that all of them wait for the same moment
            running = [pool.submit(apply, empty_database) for apply in apply_again]
        for one in running:
            one.result()
    assert version_of(empty_database) == needed_version()


def failing(version: int) -> Script:
    """A migration that fails after it has created a table and inserted a row."""
    text = """
        CREATE TABLE spillway.half (); INSERT INTO spillway.streams (name, baseline) VALUES ('half', 0);
        DO $$ BEGIN RAISE 'not so' USING HINT = 'but so'; END $$;"""
    return Script("half done", text, version)


def test_a_migration_that_fails_leaves_nothing_and_the_version_of_the_one_before(empty_database: str) -> None:
    every = scripts()
    wanted = [*every[:6], failing(5), *every[6:]]  # preamble, events, versions 1 to 4
    refused = (
        r"schema on \S+:\d+: version 5 \(half done\): not so \(but so\); nothing of this step was applied; .*"
        r"run `spillway schema` again"
    )
    with pytest.raises(Terminal, match=refused):
        apply_schema(empty_database, wanted)
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT to_regclass('spillway.half')").fetchone() == (None,)
        assert connection.execute("SELECT count(*) FROM spillway.streams").fetchone() == (0,)
        assert connection.execute("SELECT max(version) FROM spillway.schema_version").fetchone() == (4,)
    apply_schema(empty_database)
    assert version_of(empty_database) == needed_version()


def test_a_server_that_does_not_answer_is_transient() -> None:
    with pytest.raises(Transient, match=r"Connection refused.*spillway up.*run `spillway schema` again"):
        apply_schema(f"postgresql://analytics_user@127.0.0.1:{free_port()}/analytics")
