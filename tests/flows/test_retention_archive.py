"""Retention with an archive: chunks are archived before they are dropped, and earlier if an age is set."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import redis

from flows.drain import drain
from flows.maintain import maintain
from infra.producers.send import send
from infra.settings import Settings
from tasks.archive.archive_root import open_root
from tasks.archive.manifest import archive_names, load_manifest
from tasks.archive.verify import unlisted_files
from tests.support.archives import as_rows, rows_by_pandas
from tests.support.old_events import chunk_ends, recorded_drops
from tests.support.oracle import Key, Row, table_digest, table_rows
from tests.support.stream_entries import event

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("prefect_server", "hypertables")]


def test_the_way_back_from_archive_to_flow_keeps_what_is_on_record(
    drained: dict[Key, Row], database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    configure(keep="45d", retention="archive", archive_url=tmp_path)
    maintain()
    first = recorded_drops(database)
    configure(keep="30d", retention="flow")
    maintain()
    assert 0 < first < recorded_drops(database)
    configure(keep="")
    found = maintain()
    assert (found["ok"], found["row_audit"]["inserted"]) == (True, len(drained))


def test_chunks_are_archived_before_they_expire_if_an_age_is_set(
    drained: dict[Key, Row], database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    configure(archive_after="20d", archive_url=tmp_path, compress_after="")
    digest = table_digest(database)
    found = maintain()
    old = [end for _, end in chunk_ends(database) if end < datetime.now(UTC) - timedelta(days=20)]
    assert len(found["archived"]) == len(old) > 0
    assert len(list(tmp_path.rglob("_manifests/*.json"))) == len(old)
    assert table_digest(database) == digest
    assert maintain()["archived"] == []


def test_a_missing_archive_location_is_reported_once_before_the_first_chunk_expires(
    drained: dict[Key, Row], database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    configure(keep="300d", retention="archive", compress_after="")
    for dry_run in (True, False):
        found = maintain(dry_run, fail=False)
        (violation,) = found["violations"]
        assert violation.startswith("SPILLWAY_RETENTION is archive, which needs a location, found none")
    configure(keep="30d")
    found = maintain(fail=False)
    assert [text for text in found["violations"] if "SPILLWAY_ARCHIVE_URL" in text] == found["violations"][:2]
    assert table_rows(database) == drained


def test_what_is_to_be_archived_by_its_age_is_archived_before_it_is_dropped(
    drained: dict[Key, Row], database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    """Also at the first run, when it is past both ages."""
    configure(keep="30d", archive_after="20d", archive_url=tmp_path, compress_after="")
    ranges = chunk_ends(database)
    old = [end for _, end in ranges if end < datetime.now(UTC) - timedelta(days=20)]
    planned = maintain(dry_run=True)
    found = maintain()
    assert (planned["archived"], len(planned["dropped"])) == (found["archived"], len(found["dropped"]))
    assert len(found["archived"]) == len(old) > len(found["dropped"]) > 0
    root = open_root(str(tmp_path))
    archived = as_rows(rows_by_pandas(tmp_path, [load_manifest(root, name) for name in archive_names(root)]))
    assert archived | table_rows(database) == drained


def test_a_chunk_that_stays_and_gets_late_rows_has_one_archive_and_not_one_for_each_day(
    drained: dict[Key, Row], redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    configure: Callable[..., Settings], tmp_path: Path,
) -> None:  # fmt: skip
    configure(archive_after="20d", archive_url=tmp_path, compress_after="")
    before = len(maintain()["archived"])
    for number in range(3):
        moment = (datetime.now(UTC) - timedelta(days=40)).isoformat()
        send(redis_client, stream, [event(500_000 + number, time=moment)])
        drain(stream)
        assert len(maintain()["archived"]) == 1
    root = open_root(str(tmp_path))
    manifests = [load_manifest(root, name) for name in archive_names(root)]
    assert len(manifests) == before
    assert unlisted_files(root, manifests) == []
    there = table_rows(database)
    archived = as_rows(rows_by_pandas(tmp_path, manifests))
    assert archived == {key: there[key] for key in archived}
    assert sum(key[0].endswith(("7a120", "7a121", "7a122")) for key in archived) == 3
