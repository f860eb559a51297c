"""On a server without TimescaleDB, `maintain` says what needs it and checks the rows of every table."""

from __future__ import annotations

from collections.abc import Callable

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
from tests.support.command_line import RunSpillway
from tests.support.servers import Servers
from tests.support.stream_entries import event

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def drained(servers: Servers, redis_client: redis.Redis, database: psycopg.Connection, stream: str) -> str:
    """A stream of 40 events that are in the table."""
    if servers.edition:
        pytest.skip("this server has TimescaleDB")
    send(redis_client, stream, (event(n) for n in range(40)))
    assert drain(stream)["inserted"] == 40
    return stream


def test_rows_are_checked_and_the_report_says_what_is_missing(
    drained: str, database: psycopg.Connection, spillway: RunSpillway
) -> None:
    found = maintain()
    assert (found["ok"], found["edition"], found["warnings"], found["chunks"]) == (True, None, [], [])
    assert "table: compression, retention and archives need TimescaleDB" in found["summary"]
    assert (found["row_audit"]["rows"], found["row_audit"]["missing"]) == (40, 0)
    database.execute("DELETE FROM events WHERE ctid IN (SELECT ctid FROM events LIMIT 2)")
    assert maintain(fail=False)["violations"][0].startswith("2 events are gone: ")
    assert reconcile(drained, deep=True, repair=True)["balanced"]
    code, out, _ = spillway("maintain")
    assert (code, "40 rows there" in out) == (0, True)


@pytest.mark.parametrize("way", ["policy", "flow", "archive"])
def test_a_time_to_keep_is_a_warning(drained: str, way: str, configure: Callable[..., Settings]) -> None:
    configure(keep="30d", retention=way, compress_after="7d")
    found = maintain()
    assert (found["ok"], found["warnings"]) == (
        True,
        [
            "SPILLWAY_KEEP: expected a hypertable with a time, found a table on a server without TimescaleDB; the rest"
            " of maintenance works"
        ],
    )


def test_there_is_no_archive_to_restore(drained: str, configure: Callable[..., Settings], tmp_path: object) -> None:
    configure(archive_url=tmp_path)
    with pytest.raises(Terminal, match="expected an archive of those times in"):
        backfill(archive=True)
