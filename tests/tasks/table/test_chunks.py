"""`open_chunks` creates empty chunks before rows for them are loaded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tasks.table.chunks import chunks, open_chunks
from tests.support.default_table import default_table
from tests.support.servers import Servers
from tests.support.triggers import trigger

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("hypertables")]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def us(*when: int) -> int:
    return (datetime(*when, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


def rows(connection: psycopg.Connection) -> int:
    ((count,),) = connection.execute("SELECT count(*) FROM events").fetchall()
    return int(count)


def test_opened_chunks_exist_and_are_empty(database: psycopg.Connection) -> None:
    times = [us(2020, 1, 7, 5), us(2020, 2, 7), us(2020, 2, 7, 1)]
    open_chunks(database, default_table(database), times)
    made = chunks(database, default_table(database))
    assert len(made) == 2
    for moment in times:
        when = EPOCH + timedelta(microseconds=moment)
        assert any(chunk.range_start <= when < chunk.range_end for chunk in made)
    assert rows(database) == 0
    open_chunks(database, default_table(database), times)
    assert chunks(database, default_table(database)) == made
    assert rows(database) == 0


def test_inserts_into_opened_chunks_do_not_wait_for_each_other(servers: Servers, database: psycopg.Connection) -> None:
    """Two transactions insert rows into new chunks at the same time. If the chunks do not exist, the second waits."""
    first, second = datetime(2020, 1, 7, tzinfo=UTC), datetime(2020, 3, 7, tzinfo=UTC)
    insert = "INSERT INTO events VALUES (%s, gen_random_uuid(), 'a', 'b', NULL)"
    with psycopg.connect(servers.settings.database) as one, psycopg.connect(servers.settings.database) as other:
        other.execute("SET lock_timeout = '300ms'")
        other.commit()
        one.execute(insert, [first])
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(insert, [second])
        other.rollback()
        one.rollback()
        open_chunks(database, default_table(database), [us(2020, 1, 7), us(2020, 3, 7)])
        one.execute(insert, [first])
        other.execute(insert, [second])
    assert rows(database) == 2


def test_a_time_that_no_chunk_can_have_opens_none(database: psycopg.Connection) -> None:
    with pytest.raises(psycopg.Error):
        open_chunks(database, default_table(database), [us(2020, 1, 7), 2**63 - 1])
    assert (rows(database), chunks(database, default_table(database))) == (0, {})


def test_no_chunk_is_opened_if_a_users_trigger_would_see_the_row(database: psycopg.Connection) -> None:
    database.execute("CREATE TABLE seen (id uuid)")
    with trigger(database, "INSERT INTO seen VALUES (NEW.event_id);", "AFTER INSERT"):
        open_chunks(database, default_table(database), [us(2020, 1, 7)])
        assert chunks(database, default_table(database)) == {}
        assert database.execute("SELECT count(*) FROM seen").fetchall() == [(0,)]
    database.execute("DROP TABLE seen")


def test_no_row_stays_if_a_trigger_prevents_its_deletion(database: psycopg.Connection) -> None:
    with trigger(database, "RETURN NULL;", "BEFORE DELETE"):
        open_chunks(database, default_table(database), [us(2020, 1, 7)])
        assert (rows(database), chunks(database, default_table(database))) == (0, {})
