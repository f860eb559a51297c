"""If loads of one range run at once, one loads it, the others find it drained, and none fails with a deadlock."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest

from infra.errors.exceptions import AlreadyDrained, Terminal
from tasks.base.addresses import IdRange
from tasks.columns.batch import Batch
from tasks.columns.decode import TimeWindow
from tasks.columns.entries import page_to_columns
from tasks.table.insert import InsertRoute
from tasks.table.load import LoadResult, load_batch, load_in_parts
from tests.support.events_layouts import ANY
from tests.support.locks import await_waiting
from tests.support.oracle import flat_rows, ledger_is_whole, table_rows
from tests.support.servers import Servers
from tests.support.stream_entries import event
from tests.support.triggers import row_limit, trigger

EVER = TimeWindow(-(2**62), 2**62)
STREAM = "met"


def batch(start: int, stop: int, stream: str = STREAM) -> Batch:
    """The entries of these milliseconds, one each."""
    page = [
        (b"%d-0" % n, [part for pair in event(n).items() for part in pair])  # names and values in turn
        for n in range(start, stop)
    ]
    return Batch(stream, IdRange(start << 64, stop << 64), page_to_columns(page), ANY, EVER)


@pytest.fixture
def database(database: psycopg.Connection) -> psycopg.Connection:
    database.execute("INSERT INTO spillway.streams (name, baseline) VALUES (%s, 0)", [STREAM])
    return database


def test_simultaneous_loads_of_overlapping_ranges_do_not_deadlock(
    servers: Servers, database: psycopg.Connection
) -> None:
    """Without ON CONFLICT each would insert its ledger row and then wait for the other's."""
    rounds, workers = 150, 3
    barrier = threading.Barrier(workers)

    def run(worker: int) -> list[str]:
        outcomes_of_worker = []
        with psycopg.connect(servers.settings.database, autocommit=True) as connection:
            for number in range(rounds):
                mine = batch(number * 10 + worker, number * 10 + 8)  # each from another id on
                barrier.wait(240)
                try:
                    load_batch(connection, mine, f"run-{worker}", InsertRoute.STRAIGHT)
                    outcomes_of_worker.append("loaded")
                except AlreadyDrained:
                    outcomes_of_worker.append("drained")
                except psycopg.Error as error:
                    outcomes_of_worker.append(f"{type(error).__name__}: {error}")
        return outcomes_of_worker

    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(run, range(workers)))
    for outcomes in zip(*results, strict=True):
        assert sorted(outcomes) == ["drained", "drained", "loaded"]
    (loaded,) = database.execute("SELECT count(*) FROM spillway.ledger").fetchone() or (0,)
    assert loaded == rounds


def test_a_load_that_waits_for_another_continues_if_the_other_is_rolled_back(
    servers: Servers, database: psycopg.Connection
) -> None:
    with psycopg.connect(servers.settings.database) as other:
        other.execute(
            "INSERT INTO spillway.ledger (stream, ids, loaded_by)"
            " SELECT id, numrange(0, %s), 'x' FROM spillway.streams",
            [5 << 64],
        )
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(load_batch, database, batch(3, 8), "run", InsertRoute.STRAIGHT)
            await_waiting(other, other.info.backend_pid)
            other.rollback()
            assert waiting.result() == LoadResult(5, 5, 0, 0, batch(3, 8).bytes)
    assert len(table_rows(database)) == 5
    assert database.execute("SELECT read, inserted FROM spillway.ledger").fetchall() == [(5, 5)]


def test_a_repeated_load_returns_its_counts_to_its_own_run_and_is_refused_to_others(
    database: psycopg.Connection,
) -> None:
    first = load_batch(database, batch(0, 9), "run", InsertRoute.STRAIGHT)
    assert load_batch(database, batch(0, 9), "run", InsertRoute.STRAIGHT) == first
    with pytest.raises(AlreadyDrained, match=f"{STREAM} .*: drained by another run"):
        load_batch(database, batch(0, 9), "another", InsertRoute.STRAIGHT)
    with pytest.raises(AlreadyDrained):
        load_batch(database, batch(4, 20), "run", InsertRoute.STRAIGHT)
    assert len(table_rows(database)) == 9


def test_loading_a_stream_that_is_not_registered_is_an_error(database: psycopg.Connection) -> None:
    with pytest.raises(
        Terminal,
        match=r"load: stream unknown: .*not in spillway\.streams any more; nothing was loaded; run the command",
    ):
        load_batch(database, batch(0, 3, "unknown"), "run", InsertRoute.STRAIGHT)
    assert table_rows(database) == {}


def test_a_second_attempt_counts_the_parts_that_the_first_has_committed(
    servers: Servers, database: psycopg.Connection
) -> None:
    """A limit on temporary files, hit by a trigger, stands for the limit on decompression, four rows; and a lock
    timeout for a deadlock that happens once. Raised by the trigger itself, both would be about the row: see
    tests/tasks/table/test_rejections.py."""
    once = f"""IF NEW.event_id = '{event(6)[b"event_id"].decode()}' AND nextval('public.untouched') = 1 THEN
                   SET LOCAL lock_timeout = '10ms'; LOCK TABLE public.locked; END IF;"""
    database.execute("CREATE TABLE public.locked ()")
    with trigger(database, row_limit(4, once)):
        with psycopg.connect(servers.settings.database) as other:
            other.execute("LOCK TABLE public.locked")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                load_in_parts(database, batch(0, 8), "mine", InsertRoute.STRAIGHT)
        assert len(table_rows(database)) == 4
        with pytest.raises(AlreadyDrained):
            load_in_parts(database, batch(0, 8), "another", InsertRoute.STRAIGHT)
        loaded = load_in_parts(database, batch(0, 8), "mine", InsertRoute.STRAIGHT)
    database.execute("DROP TABLE public.locked")
    assert (loaded.read, loaded.inserted, loaded.duplicates) == (8, 8, 0)
    assert len(table_rows(database)) == 8
    parts = database.execute("SELECT read, loaded_by FROM spillway.ledger ORDER BY ids").fetchall()
    assert parts == [(4, "mine"), (4, "mine")]


def progress(connection: psycopg.Connection) -> object:
    """The progress in the row of the stream."""
    return connection.execute("SELECT drained::text, read, inserted FROM spillway.streams").fetchone()


def test_simultaneous_loads_of_one_stream_add_up_in_its_row(servers: Servers, database: psycopg.Connection) -> None:
    """Each range is loaded by two of the workers, and twice by one of them."""
    workers, ranges = 4, 60

    def run(worker: int) -> None:
        with psycopg.connect(servers.settings.database, autocommit=True) as connection:
            for number in range(ranges):
                if number % workers in (worker, (worker + 1) % workers):
                    mine = batch(number * 5, number * 5 + 5)
                    for _ in range(2):
                        with suppress(AlreadyDrained):
                            load_batch(connection, mine, f"run-{worker}", InsertRoute.STRAIGHT)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, range(workers)))
    assert table_rows(database) == flat_rows(event(n) for n in range(ranges * 5))
    assert ledger_is_whole(database, STREAM)
    assert progress(database) == (f"{{[0,{(ranges * 5) << 64})}}", ranges * 5, ranges * 5)


def test_a_load_waits_for_another_one_of_its_stream_only_when_it_is_done(
    servers: Servers, database: psycopg.Connection
) -> None:
    load_batch(database, batch(0, 3), "run", InsertRoute.STRAIGHT)  # makes the chunk
    waiting_for = "SELECT query FROM pg_stat_activity WHERE pid = %s"
    with psycopg.connect(servers.settings.database) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SELECT")  # begins a transaction, which stays open after the load
        load_batch(other, batch(3, 5), "other", InsertRoute.STRAIGHT)
        waiting = pool.submit(load_batch, database, batch(5, 9), "run", InsertRoute.STRAIGHT)
        try:
            await_waiting(other, other.info.backend_pid)
            with psycopg.connect(servers.settings.database) as observer:
                row = observer.execute(waiting_for, [database.info.backend_pid]).fetchone()
        finally:
            other.commit()
        assert row is not None
        assert "UPDATE spillway.streams" in row[0]
        assert waiting.result().inserted == 4
    assert progress(database) == (f"{{[0,{9 << 64})}}", 9, 9)
    assert ledger_is_whole(database, STREAM)


def test_a_load_that_fails_leaves_the_progress_as_it_was(database: psycopg.Connection) -> None:
    load_batch(database, batch(0, 5), "run", InsertRoute.STRAIGHT)
    before = progress(database)
    with trigger(database, row_limit(2)), pytest.raises(psycopg.Error):
        load_batch(database, batch(5, 9), "run", InsertRoute.STRAIGHT)
    assert progress(database) == before
    assert ledger_is_whole(database, STREAM)


def test_a_range_that_the_ledger_has_and_the_progress_lacks_is_an_error(database: psycopg.Connection) -> None:
    """Otherwise a drain would plan it again and again."""
    load_batch(database, batch(0, 9), "run", InsertRoute.STRAIGHT)
    database.execute("UPDATE spillway.streams SET drained = '{}'")
    with pytest.raises(Terminal, match=r"the progress of stream met does not balance .*twice; .*: spillway schema$"):
        load_batch(database, batch(4, 20), "another", InsertRoute.STRAIGHT)
    assert table_rows(database) == flat_rows(event(n) for n in range(9))
