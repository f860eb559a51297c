"""The schema is applied and upgraded script by script, with the data that is in the database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from infra.errors.exceptions import Terminal, Transient
from infra.schema.migrate import apply_schema
from infra.schema.schema_version import installed_schema, needed_version
from infra.schema.scripts import Script, migrations, scripts
from tests.support.catalog import apply_with_psql, catalog, run_psql
from tests.support.locks import await_waiting
from tests.support.ports import free_port
from tests.support.schema_releases import FIRST, FIRST_ROWS, PREVIOUS, PREVIOUS_ROWS, ROWS
from tests.support.servers import Servers

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
def schema_locked(url: str) -> Iterator[psycopg.Connection]:
    """In the block no other session can apply the schema: this one holds the lock."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('spillway schema'))")
        yield connection


def test_a_new_database_gets_every_migration_in_order(empty_database: str) -> None:
    apply_schema(empty_database)
    with psycopg.connect(empty_database) as connection:
        recorded = connection.execute("SELECT version, name FROM spillway.schema_version ORDER BY 1").fetchall()
    assert recorded == [(one.version, one.name) for one in migrations()]
    assert version_of(empty_database) == needed_version() == len(recorded)


# Earlier releases need TimescaleDB.
@pytest.mark.hypertables
@pytest.mark.usefixtures("hypertables")
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


@pytest.mark.hypertables
@pytest.mark.usefixtures("hypertables")
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


@pytest.mark.hypertables
@pytest.mark.usefixtures("hypertables")
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


def test_the_search_path_of_the_session_does_not_matter(
    servers: Servers, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        assert connection.execute(extension).fetchone() == (("public",) if servers.edition else None)
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
def test_several_that_apply_it_at_the_same_moment_take_turns(
    empty_database: str, release: Path | None, request: pytest.FixtureRequest
) -> None:
    if release is not None:
        request.getfixturevalue("hypertables")
        apply_with_psql(empty_database, release)
    apply_again = [apply_schema, apply_with_psql, apply_schema, apply_with_psql]
    with ThreadPoolExecutor(len(apply_again)) as pool:
        with schema_locked(empty_database) as holder:
            running = [pool.submit(apply, empty_database) for apply in apply_again]
            await_waiting(holder, holder.info.backend_pid, len(running))
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
