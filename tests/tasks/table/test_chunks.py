"""Chunks that are made before there is anything for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tasks.table.chunks import chunks, open_chunks
from tests.support.servers import Servers
from tests.support.triggers import trigger

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def us(*when: int) -> int:
    return (datetime(*when, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


def rows(connection: psycopg.Connection) -> int:
    ((count,),) = connection.execute("SELECT count(*) FROM events").fetchall()
    return int(count)


def test_chunks_are_there_and_nothing_is_in_them(database: psycopg.Connection) -> None:
    times = [us(2020, 1, 7, 5), us(2020, 2, 7), us(2020, 2, 7, 1)]
    open_chunks(database, times)
    made = chunks(database)
    assert len(made) == 2
    for moment in times:
        when = EPOCH + timedelta(microseconds=moment)
        assert any(chunk.range_start <= when < chunk.range_end for chunk in made)
    assert rows(database) == 0
    open_chunks(database, times)
    assert chunks(database) == made
    assert rows(database) == 0


def test_who_has_opened_chunks_keeps_nobody_waiting(servers: Servers, database: psycopg.Connection) -> None:
    """Two transactions put rows into new chunks at the same time. Unopened, the second waits for the first."""
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
        open_chunks(database, [us(2020, 1, 7), us(2020, 3, 7)])
        one.execute(insert, [first])
        other.execute(insert, [second])
    assert rows(database) == 2


def test_a_time_that_no_chunk_can_have_opens_none(database: psycopg.Connection) -> None:
    with pytest.raises(psycopg.Error):
        open_chunks(database, [us(2020, 1, 7), 2**63 - 1])
    assert (rows(database), chunks(database)) == (0, {})


def test_nothing_is_opened_where_a_trigger_of_the_users_would_see_it(database: psycopg.Connection) -> None:
    database.execute("CREATE TABLE seen (id uuid)")
    with trigger(database, "INSERT INTO seen VALUES (NEW.event_id);", "AFTER INSERT"):
        open_chunks(database, [us(2020, 1, 7)])
        assert chunks(database) == {}
        assert database.execute("SELECT count(*) FROM seen").fetchall() == [(0,)]
    database.execute("DROP TABLE seen")


def test_where_nothing_may_be_deleted_nothing_is_put_in(database: psycopg.Connection) -> None:
    with trigger(database, "RETURN NULL;", "BEFORE DELETE"):
        open_chunks(database, [us(2020, 1, 7)])
        assert (rows(database), chunks(database)) == (0, {})
