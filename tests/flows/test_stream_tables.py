"""The table of a stream is fixed by its first drain. An altered table is checked before anything is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from flows.backfill import backfill
from flows.drain import drain
from flows.redrive import redrive
from infra.errors.exceptions import Terminal, Unsuccessful
from infra.settings import Settings
from tests.support.command_line import RunSpillway
from tests.support.stream_entries import event

pytestmark = pytest.mark.usefixtures("prefect_server")
Alter = Callable[[str], None]
NameTable = Callable[..., None]

_COPY = "CREATE TABLE users.copy (LIKE public.events INCLUDING ALL)"
_STATE = """
    SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM users.copy),
           (SELECT array_agg("table" ORDER BY id) FROM spillway.streams AS s
             WHERE EXISTS (SELECT FROM spillway.ledger WHERE stream = s.id))"""


@pytest.fixture
def name_table(configure: Callable[..., Settings], tmp_path: Path, stream: str) -> NameTable:
    """Write the table of the stream into spillway.toml."""

    def write(table: str, columns: str = "") -> None:
        path = tmp_path / "spillway.toml"
        path.write_text(f'[streams."{stream}"]\ntable = {json.dumps(table)}\n{columns}')
        configure(mappings=path)

    return write


def add(client: redis.Redis, stream: str, *numbers: int) -> None:
    for number in numbers:
        client.xadd(stream, event(number))  # type: ignore[arg-type]


def state(database: psycopg.Connection) -> tuple[int, int, list[str]]:
    """Rows of events and of the copy, and the tables of the drained streams."""
    row = database.execute(_STATE).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


EVENTS, COPY = '"public"."events"', '"users"."copy"'


def test_another_table_after_the_first_drain_is_refused_and_each_option_works(
    database: psycopg.Connection,
    redis_client: redis.Redis,
    stream: str,
    alter: Alter,
    name_table: NameTable,
    spillway: RunSpillway,
) -> None:
    """Nothing is read. The old table can be named again, or the stream drained from its start into the new one."""
    alter(_COPY)
    add(redis_client, stream, 1, 2)
    drain(stream)
    add(redis_client, stream, 3)
    name_table("users.copy")
    for run in (lambda: drain(stream), lambda: backfill(stream=stream)):
        with pytest.raises((Terminal, Unsuccessful)) as refused:
            run()
        assert f"plan: {stream}: expected the table {EVENTS}, to which its rows went so far, found {COPY}; " in str(
            refused.value
        )
    assert state(database) == (2, 0, [EVENTS])
    name_table("events")
    assert drain(stream)["inserted"] == 1
    assert state(database) == (3, 0, [EVENTS])
    name_table("users.copy")
    assert spillway("stream", "accept-rewind", stream)[0] == 0
    assert drain(stream)["inserted"] == 3
    assert state(database) == (3, 3, [EVENTS, COPY])


def test_a_renamed_table_is_accepted_once_the_ledger_knows_its_name(
    database: psycopg.Connection,
    redis_client: redis.Redis,
    stream: str,
    alter: Alter,
    name_table: NameTable,
) -> None:
    """The statement in the message is one that can be run."""
    alter(_COPY)
    name_table("users.copy")
    add(redis_client, stream, 1, 2)
    drain(stream)
    alter('ALTER TABLE users.copy RENAME TO "it\'s 5%"')
    add(redis_client, stream, 3)
    with pytest.raises(Terminal, match="expected a table in this database, found none"):
        drain(stream)
    name_table("""users."it's 5%" """)
    with pytest.raises(Unsuccessful) as refused:
        drain(stream)
    statement = str(refused.value).split("renamed: ")[1].split("; or ")[0]
    database.execute(statement.encode())
    assert drain(stream)["inserted"] == 1


def test_the_table_of_a_stream_can_change_until_something_is_drained(
    database: psycopg.Connection,
    redis_client: redis.Redis,
    stream: str,
    alter: Alter,
    name_table: NameTable,
) -> None:
    """A stream may be registered before its first drain fails."""
    alter(_COPY)
    database.execute('INSERT INTO spillway.streams (name, baseline, "table") VALUES (%s, 0, %s)', [stream, EVENTS])
    add(redis_client, stream, 1)
    name_table("users.copy")
    drain(stream)
    assert state(database) == (0, 1, [COPY])


def test_a_table_that_a_route_chose_stays_one_of_its_tables(
    database: psycopg.Connection,
    redis_client: redis.Redis,
    stream: str,
    alter: Alter,
    name_table: NameTable,
    spillway: RunSpillway,
) -> None:
    """A route can be added. One that rows went to cannot be left out or changed, but its table can be renamed."""
    alter(f"{_COPY}; CREATE TABLE users.third (LIKE public.events INCLUDING ALL)")
    route = 'route = {{ key = "event_type", tables = {{ {} }} }}\n'.format
    name_table("events", route('"event 1" = "users.copy"'))
    for number in (1, 2):
        redis_client.xadd(stream, event(number, event_type=f"event {number}"))  # type: ignore[arg-type]
    assert drain(stream)["inserted"] == 2
    redis_client.xadd(stream, event(3, event_type="event 1"))  # type: ignore[arg-type]
    for other in ("", route('"event 1" = "users.third"')):
        name_table("events", other)
        with pytest.raises(Terminal, match=f"{stream}: expected a route to the table {COPY}") as refused:
            drain(stream)
        assert state(database) == (1, 1, [EVENTS])
    name_table("events", route('"event 1" = "users.copy", "event 2" = "users.third"'))
    assert drain(stream)["inserted"] == 1
    assert state(database) == (1, 2, [EVENTS])
    alter("ALTER TABLE users.copy RENAME TO renamed")
    name_table("events", route('"event 1" = "users.renamed"'))
    redis_client.xadd(stream, event(4, event_type="event 1"))  # type: ignore[arg-type]
    with pytest.raises(Terminal, match="expected a route"):
        drain(stream)
    statement = str(refused.value).split("renamed: ")[1].split(" with its new")[0].replace("…", '"users"."renamed"')
    database.execute(statement.encode())
    assert drain(stream)["inserted"] == 1
    assert database.execute("SELECT count(*) FROM users.renamed").fetchone() == (3,)
    assert spillway("reconcile", "--stream", stream, "--deep")[0] == 0


def test_the_key_of_a_route_is_not_unknown_although_no_column_reads_it(
    database: psycopg.Connection, redis_client: redis.Redis, stream: str, alter: Alter, name_table: NameTable
) -> None:
    alter(_COPY)
    name_table("events", 'unknown = "refuse"\nroute = { key = "kind", tables = { copy = "users.copy" } }\n')
    for number, more in enumerate([{b"kind": b"copy"}, {b"kind": b"other"}, {b"kind": b"copy", b"more": b""}]):
        redis_client.xadd(stream, event(number) | more)  # type: ignore[arg-type]
    result = drain(stream)
    assert (result["inserted"], result["quarantined"]) == (2, 1)
    assert state(database) == (1, 1, [EVENTS])


def test_a_file_stays_with_its_table(
    database: psycopg.Connection, tmp_path: Path, alter: Alter, configure: Callable[..., Settings]
) -> None:
    """Loading it into another table is a load of its own."""
    alter(_COPY)
    path = tmp_path / "some.csv"
    path.write_text("time,event_id,event_type,user_id\n2024-01-02,00000000-0000-0000-0000-000000000001,t,u\n")
    backfill(str(path))
    mappings = tmp_path / "spillway.toml"
    mappings.write_text('[streams."some.csv"]\ntable = "users.copy"\n')
    configure(mappings=mappings)
    with pytest.raises(
        Terminal, match=f"expected the table {EVENTS}, .* load the file into the new table with --again"
    ):
        backfill(str(path))
    assert state(database)[:2] == (1, 0)
    backfill(str(path), again=True)
    assert state(database) == (1, 1, [EVENTS, COPY])


FITTING = {
    "a new column": "ALTER TABLE users.copy ADD COLUMN note text",
    "a dropped column": "ALTER TABLE users.copy DROP COLUMN properties",
    "another type": "ALTER TABLE users.copy ALTER COLUMN user_id TYPE varchar(50)",
    "no key": "ALTER TABLE users.copy DROP CONSTRAINT copy_pkey",
}


@pytest.mark.parametrize("change", FITTING.values(), ids=FITTING)
def test_a_drain_continues_after_a_change_of_the_table_that_rows_still_fit(
    database: psycopg.Connection,
    redis_client: redis.Redis,
    stream: str,
    alter: Alter,
    name_table: NameTable,
    change: str,
) -> None:
    """The catalog is read again at each run."""
    alter(_COPY)
    name_table("users.copy")
    add(redis_client, stream, 1)
    drain(stream)
    alter(change)
    add(redis_client, stream, 2, 3)
    totals = drain(stream)
    assert (totals["inserted"], totals["warnings"]) == (2, [])
    assert state(database) == (0, 3, [COPY])


def test_a_change_that_keeps_rows_out_is_refused_before_anything_is_read(
    database: psycopg.Connection,
    redis_client: redis.Redis,
    stream: str,
    alter: Alter,
    name_table: NameTable,
) -> None:
    """All reasons are listed at once, and undoing the change is enough."""
    alter(_COPY)
    name_table("users.copy", 'columns.user_id = "user_id"\ncolumns.event_type = "event_type"\n')
    add(redis_client, stream, 1)
    drain(stream)
    alter(
        "ALTER TABLE users.copy RENAME COLUMN user_id TO userid;"
        "ALTER TABLE users.copy DROP COLUMN event_type, ADD COLUMN event_type text GENERATED ALWAYS AS ('x') STORED"
    )
    add(redis_client, stream, 2)
    with pytest.raises(Terminal) as refused:
        drain(stream)
    assert 'names the column "user_id", which the table does not have; did you mean "userid"?' in str(refused.value)
    assert 'names the column "event_type", which the server generates' in str(refused.value)
    assert database.execute("SELECT sum(read) FROM spillway.ledger").fetchone() == (1,)
    alter(
        "ALTER TABLE users.copy RENAME COLUMN userid TO user_id;"
        "ALTER TABLE users.copy DROP COLUMN event_type, ADD COLUMN event_type text"
    )
    assert drain(stream)["inserted"] == 1


def test_a_row_without_a_partition_waits_in_quarantine_until_there_is_one(
    database: psycopg.Connection, redis_client: redis.Redis, stream: str, alter: Alter, name_table: NameTable
) -> None:
    alter(
        "CREATE TABLE users.copy (LIKE public.events, PRIMARY KEY (event_id, time)) PARTITION BY RANGE (time);"
        "CREATE TABLE users.copy_2025 PARTITION OF users.copy FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')"
    )
    name_table("users.copy")
    for number, year in enumerate((2025, 2026, 2025)):
        redis_client.xadd(stream, event(number, time=f"{year}-06-01T00:00:00Z"))  # type: ignore[arg-type]
    totals = drain(stream)
    assert (totals["inserted"], totals["quarantined"]) == (2, 1)
    assert database.execute("SELECT extract(year FROM time) FROM users.copy").fetchall() == [(2025,), (2025,)]
    (reason,) = database.execute("SELECT reason FROM spillway.quarantine").fetchone() or ()
    assert 'no partition of relation "copy" found for row' in reason
    alter("CREATE TABLE users.copy_2026 PARTITION OF users.copy FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')")
    assert redrive(stream)["inserted"] == 1
    assert state(database) == (0, 3, [COPY])


def test_the_first_drain_into_a_table_without_a_key_says_what_that_means(
    database: psycopg.Connection, redis_client: redis.Redis, stream: str, alter: Alter, name_table: NameTable
) -> None:
    """Equal entries become two rows, and none of them is loaded twice."""
    alter("CREATE TABLE users.copy (LIKE public.events)")
    name_table("users.copy")
    add(redis_client, stream, 1, 1)
    totals = drain(stream)
    assert totals["inserted"] == 2
    (note,) = totals["warnings"]
    assert note == (
        f"{COPY}: it has no unique key that ON CONFLICT can use: each entry is loaded once, but two entries with equal"
        " content become two rows"
    )
    assert drain(stream)["warnings"] == []
    assert state(database) == (0, 2, [COPY])
