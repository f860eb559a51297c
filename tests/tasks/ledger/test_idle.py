"""A stream is idle only if planning and settling it would find and change nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import redis

from infra.connections.group_name import group_name
from infra.errors.exceptions import Terminal
from infra.settings import Settings
from tasks.base.addresses import parse_id
from tasks.ledger.idle import IdleStreams, idle_streams
from tasks.ledger.plan import make_plan
from tasks.ledger.settle import settle
from tasks.streams.pages import AbsenceRecord, StreamAway
from tests.support.ledger_edits import edit_ledger
from tests.support.old_releases import record_as_settled
from tests.support.servers import Servers
from tests.support.stream_entries import FIRST_MS, add_entries, event

EVENTS = '"public"."events"'
ENTRIES = 8
Change = Callable[[redis.Redis, psycopg.Connection, str], object]


def ledger(database: psycopg.Connection) -> list[Any]:
    """All that the ledger has, but what another settlement of an unchanged stream may write: its time, and that the
    settled entry, whose hash is known, is gone meanwhile."""
    row = "SELECT to_jsonb(s) - '{settled_at,settled_hash}'::text[] FROM spillway.streams AS s ORDER BY id"
    streams = database.execute(row).fetchall()
    return [streams, database.execute("SELECT to_jsonb(l) FROM spillway.ledger AS l ORDER BY stream, ids").fetchall()]


def in_redis(client: redis.Redis, stream: str) -> Any:
    if not client.exists(stream):
        return None
    return client.xinfo_stream(stream), client.xinfo_groups(stream)


def drain_and_settle(client: redis.Redis, database: psycopg.Connection, stream: str) -> None:
    """What a drain does, with ranges but without rows."""
    plan = make_plan(client, database, stream)
    if plan.gaps:
        record_as_settled(database, plan, plan.lag)
    settle(client, database, plan)


def find(client: redis.Redis, database: psycopg.Connection, *streams: str, **options: Any) -> IdleStreams:
    return idle_streams(client, database, dict.fromkeys(streams, EVENTS), group_name(database), **options)


@pytest.fixture
def drained(redis_client: redis.Redis, database: psycopg.Connection, stream: str) -> str:
    add_entries(redis_client, stream, 0, ENTRIES)
    drain_and_settle(redis_client, database, stream)
    return stream


def test_a_drained_stream_is_idle_and_finding_that_writes_nothing(
    drained: str, redis_client: redis.Redis, database: psycopg.Connection, unsaved: None
) -> None:
    row = "SELECT xmin, to_jsonb(s) FROM spillway.streams AS s"
    before = database.execute(row).fetchall(), ledger(database), in_redis(redis_client, drained)
    saved: Any = redis_client.info("persistence")
    with database.transaction():
        assert drained in find(redis_client, database, drained)
        assert database.execute("SELECT pg_current_xact_id_if_assigned()").fetchone() == (None,)
    now: Any = redis_client.info("persistence")
    assert now["rdb_changes_since_last_save"] == saved["rdb_changes_since_last_save"]
    assert (database.execute(row).fetchall(), ledger(database), in_redis(redis_client, drained)) == before


def in_redis_cli(*words: str) -> Change:
    """A command in which `STREAM` stands for the name of the stream."""
    return lambda client, _, stream: client.execute_command(*(stream if word == "STREAM" else word for word in words))


def in_sql(statement: str) -> Change:
    return lambda _, database, __: edit_ledger(database, statement)


def in_row(change: str) -> Change:
    return lambda _, database, __: database.execute(f"UPDATE spillway.streams SET {change}".encode())


def made_again(first: int, stop: int, offset: int) -> Change:
    def change(client: redis.Redis, _: psycopg.Connection, stream: str) -> None:
        client.delete(stream)
        add_entries(client, stream, first, stop, offset)

    return change


LAST = f"{FIRST_MS + ENTRIES - 1}-0"
LATER = f"{FIRST_MS + 99}-0"
# What happens after the drain: to the stream in Redis, to its groups, and to the ledger.
CHANGES: dict[str, Change] = {
    "a new entry": lambda client, _, stream: add_entries(client, stream, ENTRIES, ENTRIES + 1),
    "no stream": in_redis_cli("DEL", "STREAM"),
    "another type": lambda client, _, stream: client.delete(stream) and client.set(stream, "text"),
    "made again": made_again(0, ENTRIES, 50),
    "made again, shorter": made_again(0, 3, 0),
    "made again, longer": made_again(0, 99, 50),
    "a later last id": in_redis_cli("XSETID", "STREAM", LATER),
    "more added": in_redis_cli("XSETID", "STREAM", LAST, "ENTRIESADDED", f"{ENTRIES + 5}"),
    "its group is gone": lambda client, database, stream: client.xgroup_destroy(stream, group_name(database)),
    "its group moved": lambda client, database, stream: client.xgroup_setid(stream, group_name(database), LATER),
    "a group of the first release": in_redis_cli("XGROUP", "CREATE", "STREAM", "spillway", "0"),
    "a gap in the ledger": in_sql("UPDATE spillway.ledger SET ids = numrange(lower(ids), upper(ids) - 1)"),
    "a later start in the ledger": in_sql("UPDATE spillway.ledger SET ids = numrange(1, upper(ids))"),
    "fewer read": in_row("read = read - 1"),
    "more lost": in_row("lost = lost + 1"),
    "not settled": in_row("settled_id = NULL"),
    "settled earlier": in_row("settled_id = settled_id - 1"),
    "another entry": in_row("settled_hash = 'x'"),
    "another table": in_row("\"table\" = 'x'"),
    "not registered": lambda _, database, __: database.execute("TRUNCATE spillway.ledger, spillway.streams CASCADE"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_stream_with_any_change_is_not_idle(
    change: str, drained: str, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    assert drained in find(redis_client, database, drained)
    CHANGES[change](redis_client, database, drained)
    assert drained not in find(redis_client, database, drained)


def test_drained_entries_that_were_trimmed_or_deleted_leave_a_stream_idle(
    drained: str, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    for remove in (
        lambda: redis_client.xdel(drained, f"{FIRST_MS + 3}-0"),
        lambda: redis_client.xtrim(drained, minid=f"{FIRST_MS + 2}-0", approximate=False),
        lambda: redis_client.xdel(drained, f"{FIRST_MS + ENTRIES - 1}-0"),
        lambda: redis_client.xtrim(drained, maxlen=0, approximate=False),
    ):
        remove()
        assert drained in find(redis_client, database, drained)
        before = ledger(database), in_redis(redis_client, drained)
        drain_and_settle(redis_client, database, drained)
        assert (ledger(database), in_redis(redis_client, drained)) == before


def test_an_entry_that_is_gone_without_a_trace_is_not_idle(
    drained: str, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    """An older copy without the newest entry, whose last id somebody has set."""
    redis_client.delete(drained)
    add_entries(redis_client, drained, 0, ENTRIES - 1)
    redis_client.execute_command("XSETID", drained, f"{FIRST_MS + ENTRIES - 1}-0", "ENTRIESADDED", ENTRIES)
    assert drained not in find(redis_client, database, drained)
    with pytest.raises(Terminal, match="no longer exists, although older ones do"):
        make_plan(redis_client, database, drained)


@pytest.mark.parametrize("seed", range(12))
def test_planning_and_settling_an_idle_stream_changes_nothing(
    seed: int, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    """A random history. An idle stream is compared with what a plan and a settlement make of it."""
    choose = random.Random(seed)
    at, idle, busy, dumps = 0, 0, 0, list[Any]()
    for _ in range(40):
        step = choose.randrange(8)
        if step < 2:
            add_entries(redis_client, stream, at, at := at + choose.randrange(1, 6), choose.choice([0, 0, 0, 500]))
        elif step == 2 and at:
            redis_client.xdel(stream, f"{FIRST_MS + choose.randrange(at)}-0")
        elif step == 3 and at:
            redis_client.xtrim(stream, minid=f"{FIRST_MS + choose.randrange(at)}-0", approximate=False)
        elif step == 4:
            dumps.append(redis_client.dump(stream))
        elif step == 5 and dumps and (dump := choose.choice(dumps)) is not None and choose.random() < 0.5:
            redis_client.restore(stream, 0, dump, replace=True)
            at = parse_id(redis_client.xinfo_stream(stream)["last-generated-id"]) // (1 << 64) - FIRST_MS + 1  # type: ignore[index]
        is_idle = stream in find(redis_client, database, stream)
        idle, busy = idle + is_idle, busy + (not is_idle)
        before = ledger(database), in_redis(redis_client, stream)
        try:
            drain_and_settle(redis_client, database, stream)
        except (Terminal, StreamAway):
            assert not is_idle
            redis_client.delete(stream)
            database.execute("UPDATE spillway.streams SET name = name || gen_random_uuid()")
            dumps, at = [], at + 1
            continue
        if is_idle:
            assert (ledger(database), in_redis(redis_client, stream)) == before
    assert idle > 5
    assert busy > 5


def test_idle_streams_are_trimmed_as_far_as_other_groups_allow(
    drained: str, redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    redis_client.config_set("stream-node-max-entries", 1)
    try:
        for name in (names := [f"{drained}-{n}" for n in range(4)]):
            add_entries(redis_client, name, 0, ENTRIES)
            drain_and_settle(redis_client, database, name)
        _, read, pending, recent = names
        redis_client.xgroup_create(read, "other", f"{FIRST_MS + 4}-0")
        redis_client.xgroup_create(pending, "other", "0")
        redis_client.xreadgroup("other", "me", {pending: ">"}, count=3)
        redis_client.xack(pending, "other", f"{FIRST_MS}-0")
        redis_client.xadd(recent, event(9))  # type: ignore[arg-type]
        drain_and_settle(redis_client, database, recent)
        found = find(redis_client, database, *names, trim_keep=timedelta(hours=1))
        assert dict(found.trimmed) == {names[0]: ENTRIES, read: 5, pending: 1, recent: ENTRIES}
        assert [redis_client.xlen(name) for name in names] == [0, 3, 7, 1]
        again = find(redis_client, database, *names, trim_keep=timedelta(hours=1))
        assert dict(again.trimmed) == dict.fromkeys(names, 0)
    finally:
        redis_client.config_set("stream-node-max-entries", 100)


@pytest.mark.parametrize("fault", ["another stream is away", "one was away in this run"])
def test_nothing_is_trimmed_if_a_stream_was_away(
    fault: str, drained: str, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    absence = AbsenceRecord()
    add_entries(redis_client, "other", 0, ENTRIES)
    drain_and_settle(redis_client, database, "other")
    if fault == "another stream is away":
        redis_client.rename("other", "elsewhere")
    else:
        absence.add()
    found = find(redis_client, database, drained, "other", trim_keep=timedelta(0), absence=absence)
    assert drained not in found
    assert redis_client.xlen(drained) == ENTRIES


def test_a_thousand_and_more_streams_are_found_in_batches(
    redis_client: redis.Redis, database: psycopg.Connection, drained: str
) -> None:
    """Copies of one drained stream, except every seventh, which has a new entry."""
    names = [f"many:{n}" for n in range(2_503)]
    dump: Any = redis_client.dump(drained)
    with redis_client.pipeline(transaction=False) as pipeline:
        for number, name in enumerate(names):
            pipeline.restore(name, 0, dump)
            if number % 7 == 0:
                pipeline.xadd(name, {"a": "b"})
        pipeline.execute()
    database.execute(
        "INSERT INTO spillway.streams (name, baseline, settled_id, settled_entries_added, settled_hash, drained, read,"
        ' "table") SELECT n, baseline, settled_id, settled_entries_added, settled_hash, drained, read, "table"'
        " FROM spillway.streams, unnest(%s::text[]) AS n", [names]
    )  # fmt: skip
    redis_client.config_resetstat()
    found = find(redis_client, database, *names)
    assert set(found.trimmed) == {name for number, name in enumerate(names) if number % 7}
    stats: Any = redis_client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    calls = {name: number for name, number in calls.items() if name not in ("info", "config|resetstat")}
    assert (calls["time"], calls["xinfo|stream"], calls["xinfo|groups"]) == (26, 2_503, 2_503)
    assert sum(calls.values()) == 2 * 2_503 + 26 * 5  # MULTI, SUBSCRIBE, TIME, UNSUBSCRIBE, EXEC


def test_large_entries_are_not_sent(
    drained: str, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    """The newest entries of some streams are together larger than a reply may be, and one of them is so by itself."""
    sizes = {f"{stream}-{n}": 20_000 for n in range(20)} | {f"{stream}-{n}": 6 << 20 for n in range(20, 24)}
    sizes[f"{stream}-24"] = 40 << 20
    for name, size in sizes.items():
        for n in range(2):
            redis_client.xadd(name, {b"x": b"%d" % n * size}, id=f"{FIRST_MS + n}-0")
        drain_and_settle(redis_client, database, name)
    before: Any = redis_client.info("stats")
    assert set(find(redis_client, database, drained, *sizes).trimmed) == {drained, *sizes}
    after: Any = redis_client.info("stats")
    assert after["total_net_output_bytes"] - before["total_net_output_bytes"] < 150 << 20
    redis_client.xadd(f"{stream}-24", {"a": "b"})
    redis_client.delete(f"{stream}-22")
    changed = {f"{stream}-24", f"{stream}-22"}
    assert set(find(redis_client, database, drained, *sizes).trimmed) == {drained, *sizes} - changed


def test_streams_that_redis_does_not_show_are_not_idle(
    drained: str, redis_client: redis.Redis, database: psycopg.Connection, servers: Servers
) -> None:
    for name in (names := [f"shown:{n}" for n in range(5)]):
        add_entries(redis_client, name, 0, ENTRIES)
        drain_and_settle(redis_client, database, name)
    rights = ("+@all", "&*", "~shown:[0-3]", "-xinfo|groups", "(+xinfo|groups ~shown:[01])")
    redis_client.execute_command("ACL", "SETUSER", "some", "on", "nopass", *rights)
    try:
        with redis.Redis.from_url(servers.settings.redis, username="some", password="x") as client:
            assert set(find(client, database, drained, *names).trimmed) == {"shown:0", "shown:1"}
    finally:
        redis_client.execute_command("ACL", "DELUSER", "some")
