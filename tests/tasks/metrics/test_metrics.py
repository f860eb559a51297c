"""Every metric after real drains, compared with what was sent and with queries of their own."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import pytest
import redis

from flows.plain.drain import drain
from flows.plain.maintain import maintain
from flows.plain.reconcile import reconcile
from flows.plain.redrive import redrive
from infra.errors.exceptions import Unsuccessful
from infra.producers.send import send
from infra.settings import Settings
from tasks.ledger.load_seconds import LOAD_SECONDS
from tasks.ledger.merge_ranges import merge_ranges
from tasks.ledger.names import accept_rewind
from tests.support.metrics import Labels, Samples, labels
from tests.support.stream_entries import add_entries, event

Exported = Callable[..., Samples]


def of_stream(found: Samples, stream: str) -> dict[str, float]:
    """`spillway_events_total` of a stream in `events`, by result."""
    return {
        result: found["spillway_events_total"][labels(stream=stream, table="public.events", result=result)]
        for result in ("inserted", "duplicate", "conflict", "rejected", "lost")
    }


def fill(client: redis.Redis, stream: str) -> dict[str, float]:
    """Drain 128 entries with duplicates, conflicts, rejects and a loss, leave 7 undrained; returns what was sent."""
    add_entries(client, stream, 1, 101)
    add_entries(client, stream, 101, 111, offset=-100)  # 10 duplicates
    ids = iter(range(1_700_000_000_111, 1_700_000_000_200))
    for number, changes in ((5, {"user_id": "a"}), (6, {"user_id": "b"}), (900, {"time": "soon"})):
        client.xadd(stream, event(number, **changes), id=f"{next(ids)}-0")  # type: ignore[arg-type]
    drain(stream)
    add_entries(client, stream, 300, 315)
    client.xdel(stream, *(f"{1_700_000_000_000 + n}-0" for n in (303, 304, 305, 309)))
    with pytest.raises(Unsuccessful):
        drain(stream)
    old = int((time.time() - 90) * 1000)
    for n in range(7):
        client.xadd(stream, event(400 + n), id=f"{old + n}-0")  # type: ignore[arg-type]
    return {"inserted": 100 + 11, "duplicate": 10, "conflict": 2, "rejected": 1, "lost": 4}


def test_every_entry_is_counted_by_what_became_of_it(
    redis_client: redis.Redis, database: psycopg.Connection, exported: Exported, stream: str
) -> None:
    sent = fill(redis_client, stream)
    found = exported()
    assert of_stream(found, stream) == sent
    assert found["spillway_quarantine_waiting"][labels(stream=stream)] == 3
    assert found["spillway_lost_unaccepted"][labels(stream=stream)] == 4
    assert found["spillway_ledger_balanced"][labels(stream=stream)] == 1
    up = {labels(server="postgresql"): 1, labels(server="chunks"): 1, labels(server="redis"): 1}
    assert found["spillway_up"] == up
    row = database.execute("SELECT count(*) FROM events").fetchone()
    assert row == (sent["inserted"],)
    database.execute("UPDATE spillway.streams SET accepted = lost")
    assert exported()["spillway_lost_unaccepted"][labels(stream=stream)] == 0


def test_the_lag_is_what_redis_has_and_the_ledger_has_not(
    redis_client: redis.Redis, database: psycopg.Connection, exported: Exported, stream: str
) -> None:
    began = time.time()
    fill(redis_client, stream)
    send(redis_client, "never-drained", [event(1), event(2)])
    found = exported(scheduled_streams=f"{stream},never-drained,absent")
    assert found["spillway_stream_lag_entries"] == {labels(stream=stream): 7, labels(stream="never-drained"): 2}
    took = time.time() - began
    assert 90 <= found["spillway_stream_lag_seconds"][labels(stream=stream)] <= 91 + took
    assert found["spillway_stream_lag_seconds"][labels(stream="never-drained")] <= 1 + took
    drain(stream)
    found = exported()
    assert found["spillway_stream_lag_entries"][labels(stream=stream)] == 0
    assert found["spillway_stream_lag_seconds"][labels(stream=stream)] == 0
    redis_client.delete(stream)
    assert labels(stream=stream) not in exported().get("spillway_stream_lag_entries", {})


def test_the_oldest_entry_may_be_in_a_gap(
    redis_client: redis.Redis, database: psycopg.Connection, exported: Exported, stream: str
) -> None:
    now = int(time.time() * 1000)
    for age in (500, 400, 300, 200):
        redis_client.xadd(stream, event(age), id=f"{now - age * 1000}-0")  # type: ignore[arg-type]
    drain(stream)
    first, last = ((now - age * 1000) << 64 for age in (400, 300))
    database.execute("DELETE FROM spillway.ledger")
    database.execute(
        "UPDATE spillway.streams SET read = 2,"
        " drained = nummultirange(numrange(0, %s), numrange(%s, (%s::numeric + 1e30)))",
        [first, last, last],
    )
    found = exported()
    assert found["spillway_stream_lag_entries"][labels(stream=stream)] == 2
    assert 400 <= found["spillway_stream_lag_seconds"][labels(stream=stream)] <= time.time() - now / 1000 + 401
    assert found["spillway_ledger_balanced"][labels(stream=stream)] == 0


def counters(found: Samples) -> dict[tuple[str, Labels], float]:
    """Every value that may only grow."""
    names = [
        "spillway_events_total",
        *(f"spillway_load_duration_seconds_{part}" for part in ("bucket", "count", "sum")),
    ]
    return {(name, names_of): value for name in names for names_of, value in found[name].items()}


def test_no_counter_decreases_when_ranges_are_merged_or_a_stream_goes_back_or_a_redrive_is_refused(
    redis_client: redis.Redis, database: psycopg.Connection, exported: Exported, stream: str,
    configure: Callable[..., Settings],
) -> None:  # fmt: skip
    configure(batch_rows=1)
    send(redis_client, stream, [event(n) for n in range(105)])
    drain(stream)
    for table in ("ledger", "streams"):
        database.execute(f"UPDATE spillway.{table} SET loaded_at = loaded_at - interval '2 days'".encode())
    before = counters(exported())
    row = database.execute("SELECT id FROM spillway.streams").fetchone()
    assert row is not None
    merge_ranges(database, row[0])
    assert database.execute("SELECT ranges FROM spillway.ledger").fetchall() == [(105,)]
    after = counters(exported())
    assert {key: value for key, value in after.items() if not key[0].endswith("_sum")} == {
        key: value for key, value in before.items() if not key[0].endswith("_sum")
    }
    assert after["spillway_load_duration_seconds_sum", labels()] == pytest.approx(
        before["spillway_load_duration_seconds_sum", labels()]
    )
    # A stream that went back, with entries that are duplicates now, and one that is rejected.
    redis_client.delete(stream)
    accept_rewind(database, stream)
    send(redis_client, stream, [event(1), event(2), event(7, time="soon")])
    drain(stream)
    found = exported()
    assert of_stream(found, stream) == {"inserted": 105, "duplicate": 2, "conflict": 0, "rejected": 1, "lost": 0}
    assert all(value >= after[key] for key, value in counters(found).items() if key in after)
    # Its time is mended, and then it is a conflict: it stays what it was at first.
    with pytest.raises(Unsuccessful):
        redrive(stream, set={"time": event(7)[b"time"].decode(), "user_id": "another"})
    assert database.execute("SELECT kind FROM spillway.quarantine").fetchall() == [("conflict",)]
    assert of_stream(exported(), stream) == of_stream(found, stream)


def test_streams_beyond_the_limit_and_files_are_summed_under_fixed_labels(
    redis_client: redis.Redis, database: psycopg.Connection, exported: Exported, stream: str
) -> None:
    names = [f"{stream}-{letter}" for letter in "edcba"]
    for number, name in enumerate(names):
        send(redis_client, name, [event(number * 10 + n) for n in range(number + 1)])
        drain(name)
        redis_client.xadd(name, event(999))  # type: ignore[arg-type]
    database.execute(
        "WITH s AS (INSERT INTO spillway.streams (name, baseline) VALUES ('file:' || repeat('a', 64), 0) RETURNING id)"
        " INSERT INTO spillway.files (stream, path, mapping, reading, rows) SELECT id, 'f', 'm', 'r', 0 FROM s"
    )
    found = exported(metrics_streams=2)
    inserted = {
        dict(names_of)["stream"]: value
        for names_of, value in found["spillway_events_total"].items()
        if dict(names_of)["result"] == "inserted" and dict(names_of)["stream"] != "(files)"
    }
    assert inserted == {names[0]: 1, names[1]: 2, "(others)": 3 + 4 + 5}
    assert found["spillway_stream_lag_entries"] == {
        labels(stream=names[0]): 1, labels(stream=names[1]): 1, labels(stream="(others)"): 3,
    }  # fmt: skip
    assert labels(stream="(files)") in found["spillway_ledger_balanced"]
    redis_client.delete(*names)


def test_the_histogram_has_each_load_once(
    redis_client: redis.Redis, database: psycopg.Connection, exported: Exported, stream: str,
    configure: Callable[..., Settings],
) -> None:  # fmt: skip
    configure(batch_rows=10)
    send(redis_client, stream, [event(n) for n in range(40)])
    drain(stream)
    database.execute("UPDATE spillway.ledger SET seconds = 0.1 WHERE lower(ids) = 0")
    seconds = [one for (one,) in database.execute("SELECT seconds FROM spillway.ledger")]
    found = exported()
    expected = {
        labels(le=str(bound)): sum(one <= bound * 1.000_001 for one in seconds)
        for bound in (*LOAD_SECONDS, float("inf"))
    }
    expected[labels(le="+Inf")] = expected.pop(labels(le="inf"))
    assert found["spillway_load_duration_seconds_bucket"] == expected
    assert found["spillway_load_duration_seconds_count"][labels()] == len(seconds) == 4
    assert found["spillway_load_duration_seconds_sum"][labels()] == pytest.approx(sum(seconds), rel=1e-5)


@pytest.mark.parametrize(
    "fault",
    [
        "UPDATE spillway.streams SET read = read + 1",
        "UPDATE spillway.ledger SET lost = lost + 1",
        "DELETE FROM spillway.quarantine",
        "UPDATE spillway.streams SET settled_entries_added = settled_entries_added + 1",
    ],
)
def test_a_ledger_that_does_not_balance_is_exported(
    fault: str, redis_client: redis.Redis, database: psycopg.Connection, exported: Exported, stream: str
) -> None:
    send(redis_client, stream, [event(1), event(2, time="soon")])
    drain(stream)
    assert exported()["spillway_ledger_balanced"] == {labels(stream=stream): 1}
    database.execute(fault.encode())
    assert exported()["spillway_ledger_balanced"] == {labels(stream=stream): 0}


def test_reconcile_and_maintain_are_successes_if_they_find_nothing_wrong(
    redis_client: redis.Redis, database: psycopg.Connection, exported: Exported, stream: str,
    configure: Callable[..., Settings],
) -> None:  # fmt: skip
    configure(compress_after="")
    began = time.time()
    send(redis_client, stream, [event(1), event(2)])
    drain(stream)
    database.execute("UPDATE spillway.ledger SET lost = 1")
    reconcile(stream, fail=False)
    maintain(dry_run=True)
    assert exported()["spillway_last_success_timestamp_seconds"].keys() == {labels(flow="drain")}
    database.execute("UPDATE spillway.ledger SET lost = 0")
    reconcile(stream)
    maintain()
    found = exported()["spillway_last_success_timestamp_seconds"]
    assert found.keys() == {labels(flow="drain"), labels(flow="reconcile"), labels(flow="maintain")}
    assert all(began <= moment <= time.time() for moment in found.values())


def test_a_drain_that_finds_nothing_is_a_success_and_a_failed_one_is_not(
    redis_client: redis.Redis, database: psycopg.Connection, exported: Exported, stream: str
) -> None:
    def last() -> float:
        return exported()["spillway_last_success_timestamp_seconds"][labels(flow="drain")]

    assert "spillway_last_success_timestamp_seconds" not in exported()
    began = time.time()
    send(redis_client, stream, [event(1)])
    drain(stream)
    first = last()
    assert began <= first <= time.time()
    drain(stream)
    second = last()
    assert second > first
    fill(redis_client, f"{stream}-lost")  # its second drain fails
    third = last()
    add_entries(redis_client, f"{stream}-lost", 9_000_000_000_000, 9_000_000_000_003)
    redis_client.xdel(f"{stream}-lost", f"{1_700_000_000_000 + 9_000_000_000_000}-0")
    with pytest.raises(Unsuccessful):
        drain(f"{stream}-lost")
    assert last() == third
