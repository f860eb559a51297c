"""Archive → drop → restore: the same table to the byte; refused as a whole if an archive is damaged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import redis

from flows.backfill import backfill
from flows.drain import drain
from flows.maintain import maintain
from flows.reconcile import reconcile
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.settings import Settings
from tests.support.archives import AWKWARD, DOCUMENTS
from tests.support.old_events import old_events
from tests.support.oracle import crossref_rows, flat_rows, table_digest, table_rows
from tests.support.results import backfill_counts

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("prefect_server", "hypertables")]

Configure = Callable[..., Settings]


def ledger(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT * FROM spillway.ledger ORDER BY stream, ids").fetchall()


@pytest.fixture
def archived(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Configure, tmp_path: Path
) -> str:
    """Events of 60 days; those older than 30 are archived and dropped. Returns the digest of the table before."""
    entries = old_events()
    # What breaks readers, over all of the time.
    for number, (text, document) in enumerate(zip(AWKWARD * 2, DOCUMENTS, strict=False)):
        entry = entries[number * 11]
        entry |= {b"event_type": text.encode() or b" ", b"user_id": text[::-1].encode() or b" "}
        if document is None:
            del entry[b"properties"]
        else:
            entry[b"properties"] = document.encode()
    send(redis_client, stream, entries)
    assert drain(stream)["quarantined"] == 0
    digest = table_digest(database)
    configure(keep="30d", retention="archive", archive_url=tmp_path / "archive")
    found = maintain()
    assert sum(one["rows"] for one in found["dropped"]) > 100
    assert table_digest(database) != digest
    return digest


def test_what_was_archived_and_dropped_comes_back_to_the_byte_and_once(
    archived: str, database: psycopg.Connection, stream: str
) -> None:
    gone = 60 * 8 - len(table_rows(database))
    result = backfill(archive=True, expired="load")
    assert backfill_counts(result) == (gone, gone, 0, 0)
    assert table_digest(database) == archived
    again = backfill(archive=True, expired="load")
    assert (backfill_counts(again), {one["state"] for one in again["sources"]}) == ((0, 0, 0, 0), {"known"})
    assert table_digest(database) == archived
    assert reconcile("*", deep=True)["balanced"]
    twice = backfill(archive=True, expired="load", again=True)
    assert backfill_counts(twice) == (gone, 0, gone, 0)
    assert table_digest(database) == archived


def test_after_a_second_drop_the_option_again_restores_it_a_second_time(
    archived: str, database: psycopg.Connection
) -> None:
    left = table_digest(database)
    gone = 60 * 8 - len(table_rows(database))
    backfill(archive=True, expired="load")
    second = maintain()
    assert (second["ok"], second["row_audit"]["missing"]) == (True, 0)
    assert table_digest(database) == left
    result = backfill(archive=True, expired="load", again=True)
    assert backfill_counts(result)[:2] == (gone, gone)
    assert table_digest(database) == archived
    third = maintain()
    assert (third["ok"], third["row_audit"]["missing"], table_digest(database)) == (True, 0, left)


def test_since_and_until_choose_the_archives_by_their_times(archived: str, database: psycopg.Connection) -> None:
    middle = datetime.now(UTC) - timedelta(days=45)
    before = table_rows(database)
    result = backfill(archive=True, expired="load", since=middle.isoformat())
    came = table_rows(database).keys() - before.keys()
    assert 0 < result["inserted"] == len(came)
    assert result["inserted"] < 60 * 8 - len(before)
    assert min(time for _, time in came) > middle - timedelta(days=7)  # whole chunks
    rest = backfill(archive=True, expired="load", until=middle.isoformat())
    assert rest["inserted"] > 0
    assert table_digest(database) == archived
    with pytest.raises(
        Terminal, match=r"expected an archive of those times.*nothing was loaded.*spillway archive list"
    ):
        backfill(archive=True, since="2100-01-01T00:00:00Z")


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "manifest"])
def test_a_damaged_archive_is_refused_and_nothing_of_any_is_loaded(
    damage: str, archived: str, database: psycopg.Connection, tmp_path: Path
) -> None:
    before, totals = table_digest(database), ledger(database)
    pattern = "*.json" if damage == "manifest" else "*.parquet"
    victim = sorted((tmp_path / "archive").rglob(pattern))[-1]
    data = victim.read_bytes()
    if damage == "gone":
        victim.unlink()
    elif damage == "changed":
        middle = len(data) // 2
        victim.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    else:
        victim.write_bytes(data[: len(data) // 2])
    with pytest.raises(Terminal, match=re.escape(victim.name)):
        backfill(archive=True, expired="load")
    assert (table_digest(database), ledger(database)) == (before, totals)
    victim.write_bytes(data)
    backfill(archive=True, expired="load")
    assert table_digest(database) == archived


def test_without_an_archive_location_the_error_names_the_setting(database: psycopg.Connection) -> None:
    with pytest.raises(Terminal, match="SPILLWAY_ARCHIVE_URL"):
        backfill(archive=True)


def test_real_events_come_back_to_the_byte(
    sample: Path, redis_client: redis.Redis, database: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    found = crossref_rows(sample.read_bytes().splitlines())
    weeks = {key: row for key, row in found.items() if "2019-08-29" <= f"{key[1]:%Y-%m-%d}" < "2019-10-03"}
    lines = [json.dumps(document).encode() for _, _, document in weeks.values()]
    send(redis_client, "crossref-test", ({b"data": line} for line in lines))
    drain("crossref-test")
    digest = table_digest(database)
    configure(keep="365d", retention="archive", archive_url=tmp_path / "archive")
    maintain()
    assert table_rows(database) == {}
    with pytest.raises(Terminal, match=f"{len(lines)} of {len(lines)} rows are older than the retention horizon"):
        backfill(archive=True)
    assert table_rows(database) == {}
    result = backfill(archive=True, expired="load")
    assert backfill_counts(result) == (len(lines), len(lines), 0, 0)
    assert table_digest(database) == digest
    assert table_rows(database) == weeks
    assert len(weeks) > 200


def test_late_events_next_to_a_restored_archive_are_kept(
    archived: str, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    late = [dict(entry) for entry in old_events(first=10_000)[:20]]
    send(redis_client, stream, late)
    drain(stream)
    backfill(archive=True, expired="load")
    rows = table_rows(database)
    assert len(rows) == 60 * 8 + 20
    assert rows.items() >= flat_rows(late).items()
