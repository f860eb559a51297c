"""An entry above SPILLWAY_MAX_ENTRY_BYTES waits in the quarantine without its fields, and the stream keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from flows.drain import drain
from flows.reconcile import reconcile
from flows.redrive import redrive
from infra.producers.send import send
from infra.settings import Settings
from tests.support.oracle import flat_rows, ledger_is_whole, table_rows
from tests.support.results import drain_counts, findings_of, redrive_counts
from tests.support.runs import failed_redrive
from tests.support.stream_entries import event
from tests.support.tables import redrive_outcomes

pytestmark = pytest.mark.usefixtures("prefect_server")

Configure = Callable[..., Settings]
SMALL = [event(n) for n in range(6)]
LARGE = [event(n, properties=json.dumps({"text": f"{n}" * 3_000})) for n in (20, 21)]
MIXED = [*SMALL[:3], LARGE[0], *SMALL[3:], LARGE[1]]


@pytest.fixture
def limited(configure: Configure) -> Configure:
    """Sets settings: from the start a limit that the large entries exceed."""
    configure(max_entry_bytes=2_048)
    return configure


def quarantined(database: psycopg.Connection) -> list[tuple[str, list[bytes], str]]:
    return database.execute("SELECT field, fields, reason FROM spillway.quarantine ORDER BY entry_id").fetchall()


def test_a_large_entry_is_quarantined_by_its_address_and_redriven_from_the_stream_once_the_limit_is_raised(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, limited: Configure
) -> None:
    send(redis_client, stream, MIXED)
    assert drain_counts(drain(stream)) == (8, 6, 0, 2, 0)
    assert table_rows(database) == flat_rows(SMALL)
    found = quarantined(database)
    assert [fields for _, fields, _ in found] == [[], []]
    size = sum(len(name) + len(value) for name, value in LARGE[0].items())
    assert f"expected at most 2,048 bytes (SPILLWAY_MAX_ENTRY_BYTES), found {size:,}" in found[0][2]
    assert drain_counts(drain(stream)) == (0, 0, 0, 0, 0)
    assert failed_redrive(stream) == (2, 0, 0, 2)  # the limit is as it was
    assert quarantined(database) == found
    assert findings_of(reconcile(stream, deep=True)) == []
    limited(max_entry_bytes=1 << 20)
    assert redrive_counts(redrive(stream)) == (2, 2, 0, 0)
    assert redrive_counts(redrive(stream)) == (0, 0, 0, 0)
    assert table_rows(database) == flat_rows([*SMALL, *LARGE])
    assert redrive_outcomes(database) == {"redriven": 2}
    assert findings_of(reconcile(stream, deep=True)) == []
    assert ledger_is_whole(database, stream)


def test_an_entry_that_only_the_stream_has_is_not_trimmed(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, limited: Configure
) -> None:
    limited(trim_keep="0s", max_entry_bytes=2_048)
    redis_client.config_set("stream-node-max-entries", 1)  # trimmed by whole nodes
    try:
        send(redis_client, stream, MIXED)
        assert drain(stream)["quarantined"] == 2
        assert redis_client.xlen(stream) == 5  # from the first large one on
        assert drain_counts(drain(stream)) == (0, 0, 0, 0, 0)  # nothing new: trimmed in another place
        assert redis_client.xlen(stream) == 5
        limited(trim_keep="0s", max_entry_bytes=1 << 20)
        redrive(stream)
        send(redis_client, stream, [event(30)])
        drain(stream)
        assert redis_client.xlen(stream) <= 1
    finally:
        redis_client.config_set("stream-node-max-entries", 100)
    assert table_rows(database) == flat_rows([*MIXED, event(30)])


def test_an_entry_that_the_stream_no_longer_has_stays_in_the_quarantine_until_it_is_discarded(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, limited: Configure
) -> None:
    send(redis_client, stream, MIXED)
    drain(stream)
    first, second = (entry for (entry,) in database.execute("SELECT entry_id FROM spillway.quarantine ORDER BY 1"))
    redis_client.xdel(stream, first)
    limited(max_entry_bytes=1 << 20)
    assert redrive_counts(redrive(stream)) == (2, 1, 0, 1)
    assert redrive_outcomes(database) == {"redriven": 1, "waits": 1}
    (reason,) = (reason for _, _, reason in quarantined(database) if "no longer" in reason)
    assert "the stream no longer has it; bring it back, then redrive the entry, or discard it" in reason
    redis_client.delete(stream)
    assert failed_redrive(stream) == (1, 0, 0, 1)
    assert (
        "there is no stream"
        in database.execute("SELECT reason FROM spillway.quarantine WHERE outcome IS NULL").fetchone()[0]
    )  # type: ignore[index]
    assert second != first


def test_another_stream_of_the_same_name_does_not_give_its_entries(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, limited: Configure
) -> None:
    redis_client.xadd(stream, LARGE[0], id="1-0")  # type: ignore[arg-type]
    redis_client.xadd(stream, SMALL[0], id="2-0")  # type: ignore[arg-type]
    drain(stream)
    redis_client.delete(stream)
    redis_client.xadd(stream, LARGE[1], id="1-0")  # type: ignore[arg-type]
    limited(max_entry_bytes=1 << 20)
    assert failed_redrive(stream) == (1, 0, 0, 1)
    assert "the stream went back" in quarantined(database)[0][2]
    assert table_rows(database) == flat_rows([SMALL[0]])


def test_a_large_entry_can_be_edited_when_it_is_redriven(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, limited: Configure
) -> None:
    send(redis_client, stream, [LARGE[0] | {b"time": b"soon"}])
    drain(stream)
    limited(max_entry_bytes=1 << 20)
    assert failed_redrive(stream) == (1, 0, 0, 1)
    assert quarantined(database)[0][:2] == ("time", [])  # now it was read, and has a fault of its own
    assert redrive_counts(redrive(stream, set={"time": "2026-11-20T10:00:20Z"})) == (1, 1, 0, 0)
    assert table_rows(database) == flat_rows([LARGE[0] | {b"time": b"2026-11-20T10:00:20Z"}])


def test_a_large_entry_that_would_become_several_rows_is_one_entry_of_the_quarantine(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, limited: Configure,
    alter: Callable[[str], None], tmp_path: Path,
) -> None:  # fmt: skip
    alter("CREATE TABLE users.lines (sku text PRIMARY KEY, note text)")
    path = tmp_path / "spillway.toml"
    path.write_text(f'[streams."{stream}"]\ntable = "users.lines"\neach = "items"\n')
    limited(mappings=path, max_entry_bytes=2_048)
    for name, note in (("a", "x"), ("b", "x" * 3_000), ("c", "y")):
        document = {"items": [{"sku": f"{name}{n}", "note": note} for n in range(2)]}
        redis_client.xadd(stream, {"data": json.dumps(document)})
    totals = drain(stream)
    assert (totals["read"], totals["inserted"], totals["quarantined"]) == (3, 4, 1)
    limited(mappings=path, max_entry_bytes=1 << 20)
    assert redrive_counts(redrive(stream)) == (1, 1, 0, 0)
    found = database.execute("SELECT sku FROM users.lines ORDER BY 1").fetchall()
    assert [sku for (sku,) in found] == ["a0", "a1", "b0", "b1", "c0", "c1"]
    assert findings_of(reconcile(stream)) == []
