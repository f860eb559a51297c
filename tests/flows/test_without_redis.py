"""Commands that need no Redis work without one, whatever SPILLWAY_REDIS_URL says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from flows.drain import drain
from flows.maintain import maintain
from infra.producers.send import send
from infra.settings import Settings
from tests.support.backfill_sources import csv_text, flat_columns, written
from tests.support.command_line import RunSpillway
from tests.support.old_events import old_events
from tests.support.oracle import flat_rows, table_digest, table_rows
from tests.support.stream_entries import event

Configure = Callable[..., Settings]

SECRET = "QXZJ77"
URLS = {
    "malformed": f"redis://ann:{SECRET}/x@127.0.0.1:1/0",
    "of no kind": f"{SECRET}",
    "of nobody": f"redis://:{SECRET}@127.0.0.1:1/0",
}


@pytest.fixture(params=URLS)
def url(request: pytest.FixtureRequest) -> str:
    return URLS[request.param]


def test_a_file_is_loaded_its_bad_rows_are_replayed_and_the_table_is_maintained(
    url: str, spillway: RunSpillway, database: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    configure(redis_url=url, retries=0, compress_after="")
    entries = [event(n) for n in range(50)]
    rows = [*map(flat_columns, entries), *map(flat_columns, [event(99, user_id="")])]
    path = written(tmp_path, "x.csv", csv_text(rows))
    said = ""
    for command in (
        ["backfill", path],
        ["quarantine", "list"],
        ["quarantine", "redrive", "--set", "user_id=late"],
        ["maintain"],
    ):
        code, out, err = spillway(*command)
        assert code == 0, (command, err)
        said += out + err
    assert table_rows(database) == flat_rows([*entries, event(99, user_id="late")])
    assert SECRET not in said


def test_an_archive_is_restored(
    url: str, spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    configure: Configure, tmp_path: Path,
) -> None:  # fmt: skip
    send(redis_client, stream, old_events())
    drain(stream)
    before, digest = table_rows(database), table_digest(database)
    configure(keep="30d", retention="archive", archive_url=tmp_path / "archive", compress_after="")
    maintain()
    gone = len(before) - len(table_rows(database))
    assert gone > 100
    configure(redis_url=url, retries=0)
    code, out, err = spillway("backfill", "--archive", "--expired", "load", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert [result[name] for name in ("read", "inserted", "duplicates", "quarantined")] == [gone, gone, 0, 0]
    assert table_digest(database) == digest
    for command in ("list", "verify"):
        code, out, err = spillway("archive", command)
        assert code == 0, err
        assert SECRET not in out + err


@pytest.mark.parametrize(
    "command", ["drain --stream x", "backfill --stream x", "reconcile --stream x", "status", "serve"]
)
def test_what_needs_redis_refuses_a_url_that_cannot_be_read_before_anything_else(
    command: str, spillway: RunSpillway, database: psycopg.Connection, configure: Configure
) -> None:
    configure(redis_url=URLS["malformed"])
    code, _, err = spillway(*command.split())
    assert code == 2
    assert "SPILLWAY_REDIS_URL: expected a URL like" in err.replace("\n", " ")
    assert SECRET not in err
    assert database.execute("SELECT count(*) FROM spillway.streams").fetchone() == (0,)
