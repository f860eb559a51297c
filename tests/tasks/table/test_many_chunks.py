"""Rows in 300 chunks: each is found, compared with all its columns and counted once, a few chunks at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.mapping.stream_mapping import StreamMapping
from infra.tables.read_table import read_table
from tasks.base.addresses import IdRange
from tasks.columns.batch import Batch
from tasks.columns.entries import page_to_columns
from tasks.columns.row_layout import RowLayout, bind
from tasks.reconcile.compare import compare
from tasks.table import time_slices
from tasks.table.insert import InsertRoute, insert_all
from tasks.table.load import LoadResult, load_batch
from tasks.table.time_slices import cut_by_time
from tests.support.locks import await_waiting
from tests.support.oracle import Key, Row, flat_rows
from tests.support.servers import Servers
from tests.support.stream_entries import event
from tests.support.user_table import ANY_TIME

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("hypertables")]

CHUNKS, AT_ONCE = 300, 40
START = datetime(2020, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)  # of a chunk
Entry = dict[bytes, bytes]
# The key begins with the time, or does not, or there is none. The types of time are those of a hypertable.
TABLES = {
    "key": "time timestamptz NOT NULL, UNIQUE (event_id, time)",
    "time first": "time timestamp NOT NULL, PRIMARY KEY (time, event_id)",
    "no key": "time timestamptz NOT NULL",
}


class Recorded(psycopg.Connection[Any]):
    """A connection that remembers the parameters of its statements that look for rows in a span of time."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:  # type: ignore[override]
        if isinstance(params, dict) and "numbers" in params and "first" in params:
            self.__dict__.setdefault("spans", []).append(params)
        return super().execute(query, params, **options)

    def chunks_of_statements(self) -> list[int]:
        """How many chunks lie in the span of each such statement, by the test's own arithmetic."""
        hours = [
            [int(us) // 3_600_000_000 for us in (one["first"], one["last"])] for one in self.__dict__.pop("spans", [])
        ]
        return [last - first + 1 for first, last in hours]


@pytest.fixture
def recorded(servers: Servers, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    monkeypatch.setattr(time_slices, "CHUNKS_AT_ONCE", AT_ONCE)
    database.execute("INSERT INTO spillway.streams (name, baseline) VALUES ('first', 0), ('second', 0)")
    database.execute("CREATE SCHEMA users")
    with Recorded.connect(servers.settings.database, autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    database.execute("DROP SCHEMA users CASCADE")


def layout_of(connection: psycopg.Connection[Any], columns: str) -> RowLayout:
    connection.execute(
        f"CREATE TABLE users.rows (event_id uuid NOT NULL, event_type text, user_id text, properties jsonb, {columns})"
    )
    connection.execute("SELECT create_hypertable('users.rows', by_range('time', interval '1 hour'))")
    return bind(StreamMapping(name="s", table="users.rows", columns={}), read_table(connection, "users.rows"))


def in_chunk(number: int, event_id: int, **changes: str) -> Entry:
    return event(event_id, time=(START + number * HOUR + timedelta(seconds=event_id % 3600)).isoformat(), **changes)


def batch_of(layout: RowLayout, entries: Sequence[Entry], stream: str) -> Batch:
    page = [(b"%d-0" % n, [part for pair in entry.items() for part in pair]) for n, entry in enumerate(entries)]
    return Batch(stream, IdRange(0, len(entries) << 64), page_to_columns(page), layout, ANY_TIME)


def load(connection: psycopg.Connection[Any], batch: Batch) -> LoadResult:
    return load_batch(connection, batch, "test", InsertRoute.STRAIGHT)


def pairs(entries: Sequence[Entry]) -> list[tuple[Key, Row]]:
    """Key and row of each entry, by the oracle; equal ones as often as they are."""
    return sorted((pair for entry in entries for pair in flat_rows([entry]).items()), key=str)


def rows_there(connection: psycopg.Connection[Any]) -> list[tuple[Key, Row]]:
    query = """SELECT event_id::text, extract(epoch FROM time)::float8, event_type, user_id, properties
                 FROM users.rows"""
    rows = connection.execute(query).fetchall()
    return sorted((((key, datetime.fromtimestamp(time, UTC)), (*rest,)) for key, time, *rest in rows), key=str)  # type: ignore[misc]


def locked_chunks(database: psycopg.Connection, pid: int) -> set[str]:
    query = """SELECT DISTINCT chunk_name FROM pg_locks JOIN timescaledb_information.chunks AS c
                   ON relation = format('%%I.%%I', chunk_schema, chunk_name)::regclass WHERE pid = %s"""
    return {name for (name,) in database.execute(query, [pid])}


FIRST = [in_chunk(n % CHUNKS, n) for n in range(2 * CHUNKS)]


@pytest.mark.parametrize("columns", [TABLES["key"], TABLES["time first"]], ids=["key", "time first"])
@pytest.mark.parametrize("compressed", [False, True], ids=["rows", "compressed"])
def test_duplicates_and_conflicts_in_all_chunks_are_distinguished_by_all_columns(
    recorded: Recorded, servers: Servers, columns: str, compressed: bool
) -> None:
    layout = layout_of(recorded, columns)
    assert load(recorded, batch_of(layout, FIRST, "first")).inserted == len(FIRST)
    if compressed:
        if servers.edition != "Community":
            pytest.skip("compression needs TimescaleDB Community")
        recorded.execute("ALTER TABLE users.rows SET (timescaledb.compress, timescaledb.compress_orderby = 'time')")
        recorded.execute(
            "SELECT compress_chunk(c) FROM show_chunks('users.rows') WITH ORDINALITY AS s(c, n) WHERE n % 9 = 0"
        )
    same = [entry for n, entry in enumerate(FIRST) if n % 3]
    conflicts = [in_chunk(n % CHUNKS, n, user_id="somebody else") for n in range(0, CHUNKS, 30)]
    conflicts += [in_chunk(n % CHUNKS, n, properties='{"n": "another"}') for n in range(15, CHUNKS, 30)]
    new = [in_chunk(n, 10_000 + n) for n in range(0, CHUNKS, 7)]
    again = [*same, *conflicts, *new]
    Random(1).shuffle(again)
    recorded.chunks_of_statements()
    loaded = load(recorded, batch_of(layout, again, "second"))
    assert (loaded.inserted, loaded.duplicates, loaded.quarantined) == (len(new), len(same), len(conflicts))
    assert rows_there(recorded) == pairs([*FIRST, *new])
    kept = recorded.execute("SELECT split_part(entry_id, '-', 1)::int, field FROM spillway.quarantine").fetchall()
    fields = {again.index(one): "user_id" if one[b"user_id"] == b"somebody else" else "properties" for one in conflicts}
    assert dict(kept) == fields
    spanned = recorded.chunks_of_statements()
    assert max(spanned) <= AT_ONCE
    assert len(spanned) <= CHUNKS // AT_ONCE + 1


@pytest.mark.parametrize("route", InsertRoute)
def test_repeats_of_keys_that_the_same_load_inserted_are_compared_with_its_own_rows(
    recorded: Recorded, route: InsertRoute
) -> None:
    """No other session sees these rows yet, nor what a savepoint of this one would take back."""
    layout = layout_of(recorded, TABLES["key"])
    first = FIRST[:CHUNKS]
    conflicts = [in_chunk(n, n, user_id="somebody else") for n in range(0, CHUNKS, 3)]
    properties = {n: json.loads(first[n][b"properties"]) for n in range(1, CHUNKS, 3)}
    same = [in_chunk(n, n, properties=json.dumps(one, indent=1)) for n, one in properties.items()]
    recorded.chunks_of_statements()
    loaded = load_batch(recorded, batch_of(layout, [*first, *conflicts, *same], "first"), "test", route)
    assert (loaded.inserted, loaded.duplicates, loaded.quarantined) == (CHUNKS, len(same), len(conflicts))
    assert rows_there(recorded) == pairs(first)
    assert max(recorded.chunks_of_statements()) <= AT_ONCE


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "rolled back"])
@pytest.mark.parametrize("route", InsertRoute)
def test_a_load_that_waits_for_the_same_keys_counts_what_the_other_load_left(
    recorded: Recorded, servers: Servers, database: psycopg.Connection, route: InsertRoute, committed: bool
) -> None:
    """The comparison sees rows that another session committed after this load began."""
    layout = layout_of(recorded, TABLES["key"])
    earlier = [in_chunk(n, 10_000 + n) for n in range(CHUNKS)]  # the chunks exist: what the load waits for is a key
    load(recorded, batch_of(layout, earlier, "first"))
    others = [in_chunk(n, n, **({} if n % 5 else {"user_id": "somebody else"})) for n in range(CHUNKS)]
    with psycopg.connect(servers.settings.database) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SELECT 1")  # begins the transaction
        assert insert_all(other, batch_of(layout, others, "first").tables, InsertRoute.STRAIGHT).inserted == CHUNKS
        waits = pool.submit(load_batch, recorded, batch_of(layout, FIRST, "second"), "test", route)
        await_waiting(database, other.info.backend_pid)
        other.commit() if committed else other.rollback()
        loaded = waits.result()
    conflicts = CHUNKS // 5 if committed else 0
    known = CHUNKS if committed else 0
    assert (loaded.inserted, loaded.duplicates, loaded.quarantined) == (
        2 * CHUNKS - known,
        known - conflicts,
        conflicts,
    )
    assert rows_there(recorded) == pairs([*earlier, *(others if committed else FIRST[:CHUNKS]), *FIRST[CHUNKS:]])


@pytest.mark.parametrize("triggered", [False, True], ids=["check", "check and trigger"])
def test_rejected_rows_in_all_chunks_are_classified_by_their_keys(recorded: Recorded, triggered: bool) -> None:
    """A row that the table rejects is a conflict if its key is there, otherwise refused. A trigger changes the rows."""
    layout = layout_of(recorded, f"{TABLES['key']}, CHECK (user_id <> 'bad')")
    changed: dict[str, str] = {}
    if triggered:
        recorded.execute(
            """CREATE FUNCTION users.change() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN NEW.event_type := 'changed'; RETURN NEW; END $$;
               CREATE TRIGGER change BEFORE INSERT ON users.rows FOR EACH ROW EXECUTE FUNCTION users.change()"""
        )
        changed = {"event_type": "changed"}
        layout = bind(layout.mapping, read_table(recorded, "users.rows"))
    first = FIRST[:CHUNKS]
    load(recorded, batch_of(layout, first, "first"))
    known = [in_chunk(n, n, user_id="bad") for n in range(0, CHUNKS, 60)]
    unknown = [in_chunk(n, 10_000 + n, user_id="bad") for n in range(30, CHUNKS, 60)]
    again = [*(entry for n, entry in enumerate(first) if n % 60), *known, *unknown]
    Random(2).shuffle(again)
    recorded.chunks_of_statements()
    loaded = load(recorded, batch_of(layout, again, "second"))
    assert (loaded.inserted, loaded.duplicates, loaded.quarantined) == (0, 295, 10)
    assert rows_there(recorded) == pairs([in_chunk(n, n, **changed) for n in range(CHUNKS)])
    kinds = dict(recorded.execute("SELECT split_part(entry_id, '-', 1)::int, kind FROM spillway.quarantine").fetchall())
    assert sorted(kinds) == sorted(again.index(one) for one in [*known, *unknown])
    if not triggered:  # the trigger may be the reason why the row with a known key was rejected
        assert [kinds[again.index(one)] for one in known] == ["conflict"] * 5
    assert [kinds[again.index(one)] for one in unknown] == ["refused"] * 5
    assert max(recorded.chunks_of_statements()) <= AT_ONCE


def test_a_few_rows_in_chunks_far_apart_leave_no_lock_on_the_chunks_between(
    recorded: Recorded, database: psycopg.Connection
) -> None:
    """Every chunk with its indexes takes several locks, and the memory for them is the server's."""
    layout = layout_of(recorded, TABLES["key"])
    load(recorded, batch_of(layout, FIRST, "first"))
    recorded.chunks_of_statements()
    batch = batch_of(layout, FIRST[:CHUNKS:50], "second")
    with recorded.transaction():
        inserted = insert_all(recorded, batch.tables, InsertRoute.MERGE)
        held = locked_chunks(database, recorded.info.backend_pid)
    assert (inserted.inserted, inserted.duplicates) == (0, 6)
    assert recorded.chunks_of_statements() == [1] * 6
    names = recorded.execute(
        "SELECT tableoid::regclass::text FROM users.rows WHERE event_id = ANY(%s::uuid[])",
        [[entry[b"event_id"].decode() for entry in FIRST[:CHUNKS:50]]],
    )
    assert held == {name.rpartition(".")[2] for (name,) in names}


@pytest.mark.parametrize("columns", TABLES.values(), ids=TABLES)
def test_missing_and_changed_rows_in_any_chunk_are_found_and_put_back(recorded: Recorded, columns: str) -> None:
    layout = layout_of(recorded, columns)
    twice = [] if layout.key else FIRST[5:200:20]  # without a key, equal entries are as many rows
    entries = [*FIRST, *twice]
    load(recorded, batch_of(layout, entries, "first"))
    gone = [str(FIRST[n][b"event_id"], "ascii") for n in (0, 5, 150, 299, 599)]
    recorded.execute("DELETE FROM users.rows WHERE event_id = ANY(%s::uuid[])", [gone])
    changed = str(FIRST[77][b"event_id"], "ascii")
    recorded.execute("UPDATE users.rows SET user_id = 'edited' WHERE event_id = %s::uuid", [changed])
    recorded.chunks_of_statements()
    found = compare(recorded, batch_of(layout, entries, "first"), repair=True)
    spanned = recorded.chunks_of_statements()
    assert max(spanned) <= AT_ONCE
    assert len(spanned) <= CHUNKS // AT_ONCE + 1
    missing = len(gone) + (0 if layout.key else 2)  # FIRST[5] was there twice; a changed row is missing and surplus
    assert found.repaired == missing
    edited = [in_chunk(77, 77, user_id="edited")]
    left = [*entries, *edited] if not layout.key else [*FIRST[:77], *edited, *FIRST[78:]]
    assert rows_there(recorded) == pairs(left)


@given(
    starts=st.lists(st.integers(0, 400), unique=True, min_size=1).map(sorted),
    times=st.lists(st.integers(0, 500), min_size=1, max_size=100),
)
def test_slices_have_every_row_once_in_the_order_of_time_and_few_chunks_each(
    starts: list[int], times: list[int]
) -> None:
    timed = np.array(list(enumerate(times)), np.int64)
    slices = list(cut_by_time(timed, np.array(starts, np.int64)))
    assert sorted(n for one in slices for n in one.numbers or ()) == list(range(len(times)))
    last = -1
    for one in slices:
        moments = [times[n] for n in one.numbers or ()]
        assert (one.first, one.last) == (min(moments), max(moments))
        assert min(moments) > last
        last = max(moments)
        met = {sum(start <= moment for start in starts) for moment in range(min(moments), last + 1)}
        assert len(met) <= time_slices.CHUNKS_AT_ONCE
