"""Reconciliation on real servers: untouched tables balance, and every change by hand is found and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from flows.drain import drain
from flows.reconcile import reconcile
from flows.redrive import redrive
from infra.errors.exceptions import Terminal
from infra.producers.generate import batches
from infra.producers.send import send
from infra.schema.migrate import apply_schema
from infra.settings import Settings, settings
from tests.support.command_line import RunSpillway
from tests.support.oracle import crossref_rows, flat_rows, ledger_is_whole, table_rows
from tests.support.results import drain_counts, findings_of, redrive_counts
from tests.support.stream_entries import event
from tests.support.tables import empty_tables

pytestmark = pytest.mark.usefixtures("prefect_server")


def compare(stream: str, **options: Any) -> dict[str, Any]:
    result: dict[str, Any] = reconcile(stream, deep=True, fail=False, **options)
    return result


@pytest.mark.parametrize("batch_rows", [500, 50_000])
def test_a_drained_stream_with_duplicates_bad_entries_and_conflicts_balances(
    batch_rows: int, redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    configure: Callable[..., Settings],
) -> None:  # fmt: skip
    configure(batch_rows=batch_rows)
    produced = list(batches(3_000, seed=4, duplicates=0.03, bad=0.02, late=0.05))
    entries = [entry for batch in produced for entry in batch.entries]
    is_bad = [bad for batch in produced for bad in batch.bad]
    conflicts = [event(n, user_id=user) for n in range(20) for user in ("a", "b", "a")]
    send(redis_client, stream, [*entries, *conflicts])
    good = [entry for entry, bad in zip(entries, is_bad, strict=True) if not bad]
    rows = flat_rows([*good, *conflicts])
    drained = drain(stream)
    bad = len(entries) - len(good)
    assert drain_counts(drained) == (3_060, len(rows), 3_060 - len(rows) - bad - 20, bad + 20, 0)
    assert table_rows(database) == rows
    result = compare(stream)
    assert (findings_of(result), result["compared"], result["repaired"]) == ([], 3_060, 0)

    # Entries whose only fault is their user become rows; conflicts stay conflicts, and other faults stay.
    fixed = [
        entry | {b"user_id": b"later"}
        for entry, bad_entry in zip(entries, is_bad, strict=True)
        if bad_entry and b"\0" in entry.get(b"user_id", b"\0")
    ]
    assert 0 < len(fixed) < bad
    redriven = redrive(stream, set={"user_id": "later"})
    assert redrive_counts(redriven) == (bad + 20, len(fixed), 0, bad + 20 - len(fixed))
    assert table_rows(database) == rows | flat_rows(fixed)
    result = compare(stream)
    assert (findings_of(result), result["compared"], result["repaired"]) == ([], 3_060, 0)


def test_real_events_balance(sample: Path, redis_client: redis.Redis, database: psycopg.Connection) -> None:
    lines = sample.read_bytes().splitlines()
    send(redis_client, "crossref-test", ({b"data": line} for line in lines))
    drain("crossref-test")
    result = compare("crossref-test")
    assert (result["balanced"], result["compared"]) == (True, 2_737)
    assert table_rows(database) == crossref_rows(lines)


def test_changed_and_missing_rows_are_found_and_missing_ones_are_put_back(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    entries = [event(n) for n in range(300)]
    send(redis_client, stream, [*entries, *entries[:10]])
    drain(stream)
    gone = [entries[n] for n in (3, 77, 250)]
    for entry in gone:
        database.execute("DELETE FROM events WHERE event_id = %s", [entry[b"event_id"].decode()])
    database.execute("UPDATE events SET user_id = 'x' WHERE event_id = %s", [entries[100][b"event_id"].decode()])
    with pytest.raises(Terminal, match=r"4 missing \(no row has its key\), repair: spillway reconcile .* --repair"):
        reconcile(stream, deep=True)
    result = compare(stream)
    assert findings_of(result) == [("different", 1), ("missing", 4)]  # entry 3 came twice, and both copies are missing
    different = result["findings"][0]
    assert different["detail"] == "its row has another user_id"
    (entry_id,) = [i.decode() for i, fields in redis_client.xrange(stream) if fields == entries[100]]  # type: ignore[union-attr]
    assert different["ids"] == entry_id
    repaired = compare(stream, repair=True)
    assert (repaired["repaired"], findings_of(repaired)) == (4, [("different", 1)])
    rows = table_rows(database)
    expected = flat_rows(entries) | flat_rows([event(100, user_id="x")])
    assert rows == expected
    database.execute("DELETE FROM events WHERE user_id = 'x'")
    assert compare(stream, repair=True)["balanced"]
    assert table_rows(database) == flat_rows(entries)


def test_a_span_is_compared_and_nothing_beyond_it(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    for n in range(100):
        redis_client.xadd(stream, event(n), id=f"{1_700_000_000_000 + n}-0")  # type: ignore[arg-type]
    drain(stream)
    database.execute("DELETE FROM events")
    result = compare(stream, since="1700000000010-0", until="1700000000019")
    assert (result["compared"], findings_of(result)) == (10, [("missing", 10)])
    later = compare(stream, since="2030-01-01T00:00:00Z")
    assert (later["compared"], later["balanced"]) == (0, True)


def test_a_row_that_exists_twice_is_found(redis_client: redis.Redis, database: psycopg.Connection, stream: str) -> None:
    """The primary key forbids it, so the test drops the key, as a broken index would."""
    send(redis_client, stream, [event(n) for n in range(5)])
    drain(stream)
    try:
        database.execute("ALTER TABLE events DROP CONSTRAINT events_pkey")
        database.execute("INSERT INTO events SELECT * FROM events WHERE user_id = 'user-3'")
        result = compare(stream)
        assert findings_of(result) == [("doubled", 1)]
        assert result["findings"][0]["detail"] == "2 rows have its key"
    finally:
        database.execute("TRUNCATE events")
        database.execute("ALTER TABLE events ADD PRIMARY KEY (event_id, time)")


# An edit of the ledger by hand, and the findings that it leads to.
EDITS = {
    "gap": ("DELETE FROM spillway.ledger WHERE ids @> {middle}", ["progress does not balance", "gap"]),
    "the progress": (
        "UPDATE spillway.streams SET drained = drained - nummultirange(numrange(0, 9)), loaded_at = NULL",
        ["progress does not balance"],
    ),
    "the sums": (
        "UPDATE spillway.streams SET read = read - 1, inserted = inserted + 1",
        ["progress does not balance"],
    ),
    "overlap": (
        "ALTER TABLE spillway.ledger DROP CONSTRAINT ledger_no_overlap;"
        " INSERT INTO spillway.ledger (stream, ids, loaded_by)"
        " SELECT stream, ids, 'x' FROM spillway.ledger ORDER BY ids DESC LIMIT 1",
        ["progress does not balance", "overlap"],
    ),
    "a range": (
        "ALTER TABLE spillway.ledger DROP CONSTRAINT ledger_balances;"
        " UPDATE spillway.ledger SET inserted = inserted - 1 WHERE ids @> {middle}",
        ["progress does not balance", "range does not balance"],
    ),
    "the quarantine": ("DELETE FROM spillway.quarantine", ["quarantine does not balance"]),
    "a stray": ("UPDATE spillway.quarantine SET entry_id = '99999999999999-0'", ["quarantine does not balance"] * 2),
    "a loss": (
        "UPDATE spillway.streams SET lost = 1",
        ["losses do not balance", "stream does not balance", "went back"],
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_ledger_does_not_balance(
    edit: str, redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Callable[..., Settings]
) -> None:
    configure(batch_rows=10, parallel_loads=1)
    for n in range(50):
        entry = event(n) if n != 4 else event(n, user_id="")
        redis_client.xadd(stream, entry, id=f"{1_700_000_000_000 + n}-0")  # type: ignore[arg-type]
    drain(stream)
    assert reconcile(stream)["balanced"]
    statement, expected = EDITS[edit]
    middle = "1700000000025 * 18446744073709551616"
    try:
        database.execute(statement.format(middle=middle).encode())
        result = reconcile(stream, fail=False)
        assert [finding["what"] for finding in result["findings"]] == expected
        assert all(finding["repair"] for finding in result["findings"])
    finally:
        empty_tables(database)
        database.execute("DROP TABLE spillway.ledger CASCADE")
        apply_schema(settings().database)


def test_the_commands_in_the_findings_fill_a_gap(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Callable[..., Settings]
) -> None:
    """An edit of the ledger by hand does not reach the progress, which drains believe, until `spillway schema`."""
    configure(batch_rows=10)
    for n in range(30):
        redis_client.xadd(stream, event(n), id=f"{1_700_000_000_000 + n}-0")  # type: ignore[arg-type]
    drain(stream)
    database.execute("DELETE FROM spillway.ledger WHERE ids @> 1700000000015 * 18446744073709551616")
    edited, gap, *_ = reconcile(stream, fail=False)["findings"]
    assert edited["detail"].startswith(f"the progress of stream {stream} does not balance with its ledger: ")
    assert (edited["ids"], edited["repair"]) == (gap["ids"], "spillway schema")
    apply_schema(settings().database)
    assert gap["what"] == "gap"
    assert gap["repair"] == f"spillway drain --stream {stream}"
    assert drain_counts(drain(stream)) == (10, 0, 10, 0, 0)
    assert ledger_is_whole(database, stream)
    assert table_rows(database) == flat_rows(event(n) for n in range(30))
    result = reconcile(stream)
    assert result["balanced"]
    assert [(found["read"], found["inserted"], found["duplicates"]) for found in result["streams"]] == [(30, 20, 10)]


def test_the_command_prints_what_is_wrong_and_exits_with_1(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [event(n) for n in range(12)])
    drain(stream)
    code, out, _ = spillway("reconcile", "--stream", stream, "--deep")
    assert code == 0
    assert "12 entries compared" in out
    assert "everything balances" in out
    database.execute("DELETE FROM events WHERE user_id = 'user-1'")
    assert spillway("reconcile", "--stream", stream)[0] == 0  # the totals alone still balance
    code, out, _ = spillway("reconcile", "--stream", stream, "--deep")
    assert code == 1
    assert "missing" in out
    assert "--repair" in out
    code, out, _ = spillway("reconcile", "--stream", stream, "--deep", "--json")
    assert (code, json.loads(out)["findings"][0]["count"]) == (1, 2)
    redis_client.delete(stream)
    code, out, _ = spillway("reconcile", "--stream", f"{stream}*")
    assert code == 1
    assert "no such stream in Redis any more" in out
    code, out, _ = spillway("reconcile", "--stream", "never-seen")
    assert code == 1
    assert "it was never drained" in out


def test_a_growing_stream_balances_while_it_is_drained(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flows.plain.reconcile as module

    send(redis_client, stream, [event(n) for n in range(40)])
    drain(stream)
    really_read = module.read

    def drain_and_read(*args: Any) -> Any:
        send(redis_client, stream, [event(int(redis_client.xlen(stream)))])  # type: ignore[arg-type]
        drain(stream)
        return really_read(*args)

    monkeypatch.setattr(module, "read", drain_and_read)
    result = compare(stream)
    assert (findings_of(result), result["compared"]) == ([], 40)  # those drained before it began
    grown = int(redis_client.xlen(stream))  # type: ignore[arg-type]
    assert grown > 40
    assert table_rows(database) == flat_rows(event(n) for n in range(grown))
