"""The progress in `spillway.streams` is filled from the ledger, and refreshed when the schema is applied."""

from __future__ import annotations

import threading

import psycopg
import pytest

from infra.schema.migrate import apply_schema
from tests.support.catalog import apply_with_psql
from tests.support.locks import await_waiting
from tests.support.schema_releases import FIRST, FIRST_ROWS

PROGRESS = "SELECT name, drained::text, read, inserted, loaded_at FROM spillway.streams ORDER BY id"


def progress_by_ledger(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    """The rows of `PROGRESS` as the ledger has them, added up range by range."""
    found = []
    for stream_id, name in connection.execute("SELECT id, name FROM spillway.streams ORDER BY id").fetchall():
        parts: list[list[int]] = []
        read = inserted = 0
        latest = None
        query = "SELECT lower(ids), upper(ids), read, inserted, loaded_at FROM spillway.ledger WHERE stream = %s"
        for lower, upper, *counts, loaded_at in connection.execute(query + " ORDER BY ids", [stream_id]).fetchall():
            if parts and parts[-1][1] == lower:
                parts[-1][1] = upper
            else:
                parts.append([lower, upper])
            read, inserted = read + counts[0], inserted + counts[1]
            latest = loaded_at if latest is None else max(latest, loaded_at)
        drained = "{" + ",".join(f"[{lower},{upper})" for lower, upper in parts) + "}"
        found.append((name, drained, read, inserted, latest))
    return found


MORE = """
    INSERT INTO spillway.streams (name, baseline) VALUES ('empty', 3), ('gaps', 0);
    INSERT INTO spillway.ledger (stream, ids, read, inserted, loaded_by, loaded_at)
    SELECT s.id, numrange(i * 10, i * 10 + CASE WHEN i % 3 = 0 THEN 9 ELSE 10 END), i, i, 'x',
           now() - i * '1 h'::interval
      FROM spillway.streams AS s, generate_series(0, 200) AS i WHERE name = 'gaps';"""


@pytest.mark.hypertables
@pytest.mark.usefixtures("hypertables")
@pytest.mark.parametrize("by_psql", [True, False], ids=["psql", "spillway"])
def test_an_upgrade_fills_the_progress_from_the_ledger(empty_database: str, by_psql: bool) -> None:
    apply_with_psql(empty_database, FIRST)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(FIRST_ROWS.encode() + MORE.encode())
        if by_psql:
            apply_with_psql(empty_database)
        else:
            apply_schema(empty_database)
        assert connection.execute(PROGRESS).fetchall() == progress_by_ledger(connection)
        assert connection.execute("SELECT read, inserted FROM spillway.streams WHERE name = 'web'").fetchall() == [
            (4, 2)
        ]


@pytest.mark.hypertables
@pytest.mark.usefixtures("hypertables")
def test_it_is_filled_next_to_a_wrong_count_of_an_earlier_release(empty_database: str) -> None:
    apply_with_psql(empty_database, FIRST)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(FIRST_ROWS.encode() + MORE.encode() + b"; UPDATE spillway.streams SET lost = -1")
        for _ in range(2):
            apply_schema(empty_database)
            assert connection.execute(PROGRESS).fetchall() == progress_by_ledger(connection)
            assert connection.execute("SELECT DISTINCT lost FROM spillway.streams").fetchall() == [(-1,)]
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("INSERT INTO spillway.streams (name, baseline, lost) VALUES ('other', 0, -1)")


@pytest.fixture
def filled(empty_database: str) -> psycopg.Connection:
    apply_schema(empty_database)
    connection = psycopg.connect(empty_database, autocommit=True)
    connection.execute(MORE.replace("ids, read,", "ids, rows, read,").replace("END), i,", "END), i, i,").encode())
    return connection


def test_applied_again_it_refreshes_what_an_edit_of_the_ledger_has_changed(
    filled: psycopg.Connection, empty_database: str
) -> None:
    with filled as connection:
        apply_schema(empty_database)
        before = connection.execute(PROGRESS).fetchall()
        assert before == progress_by_ledger(connection)
        connection.execute("DELETE FROM spillway.ledger WHERE ids @> 55::numeric OR ids @> 2005::numeric")
        assert connection.execute(PROGRESS).fetchall() == before
        apply_schema(empty_database)
        assert connection.execute(PROGRESS).fetchall() == progress_by_ledger(connection) != before


def test_it_waits_for_a_load_that_has_not_added_its_range_yet(filled: psycopg.Connection, empty_database: str) -> None:
    with filled as connection, psycopg.connect(empty_database) as load:
        load.execute(
            "INSERT INTO spillway.ledger (stream, ids, rows, read, inserted, loaded_by)"
            " SELECT id, '[5000,6000)', 7, 7, 7, 'x' FROM spillway.streams WHERE name = 'empty'"
        )
        applying = threading.Thread(target=apply_schema, args=[empty_database])
        applying.start()
        await_waiting(connection, load.info.backend_pid)
        load.execute(
            "UPDATE spillway.streams SET drained = drained + '{[5000,6000)}', read = read + 7, inserted = inserted + 7,"
            " loaded_at = now() WHERE name = 'empty'"
        )
        load.commit()
        applying.join()
        assert connection.execute(PROGRESS).fetchall() == progress_by_ledger(connection)
