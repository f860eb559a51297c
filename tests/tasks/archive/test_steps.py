"""Archiving as a flow does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from prefect import flow

from infra.connections.clients import Clients
from infra.errors.exceptions import Terminal, Transient
from infra.settings import Settings, settings
from tasks.archive.archive_root import open_root
from tasks.archive.manifest import archive_names, load_manifest
from tasks.archive.steps import archive_and_drop, archive_and_keep
from tasks.base.progress import ProgressEvent, StepReached, subscribe
from tests.support.archives import (
    THURSDAY,
    chunks,
    event,
    insert_events,
    only_chunk,
    plain_events,
    rows_by_pandas,
    rows_in_order,
)
from tests.support.default_table import default_maintained
from tests.support.servers import Servers

pytestmark = pytest.mark.usefixtures("prefect_server")


@flow(persist_result=False)
def retire() -> None:
    with Clients(settings()) as clients:
        with clients.postgres() as connection:
            found, one = chunks(connection), default_maintained(connection)
        for chunk in found:
            archive_and_drop(clients, one, chunk)


def late_rows(servers: Servers, times: int) -> Callable[[ProgressEvent], None]:
    """One row more after each archive, so many times."""
    numbers = iter(range(90_000, 90_000 + times))

    def come(news: ProgressEvent) -> None:
        if isinstance(news, StepReached) and news.step == "verified" and (number := next(numbers, None)):
            with psycopg.connect(servers.settings.database) as other:
                insert_events(other, [event(number, THURSDAY)])

    return come


def test_rows_that_come_between_archive_and_drop_are_archived_with_the_rest(
    servers: Servers, database: psycopg.Connection, tmp_path: Path, configure: Callable[..., Settings]
) -> None:
    configure(archive_url=tmp_path)
    insert_events(database, plain_events(200))
    rows = rows_in_order(database)
    with subscribe(late_rows(servers, 2)):
        retire()
    assert chunks(database) == []
    root = open_root(str(tmp_path))
    (name,) = archive_names(root)
    found = rows_by_pandas(tmp_path, [load_manifest(root, name)])
    assert len(found) == 202
    assert set(rows) < set(found)


def test_a_chunk_that_gets_rows_all_the_time_stays_until_the_next_run(
    servers: Servers, database: psycopg.Connection, tmp_path: Path, configure: Callable[..., Settings]
) -> None:
    configure(archive_url=tmp_path)
    insert_events(database, plain_events(200))
    with (
        subscribe(late_rows(servers, 100)),
        pytest.raises(Transient, match="rows arrived between the archive and the drop at each of 3 attempts"),
    ):
        retire()
    assert len(rows_in_order(database)) > 200
    only_chunk(database)
    retire()
    assert chunks(database) == []


def test_without_a_place_nothing_is_dropped(database: psycopg.Connection, configure: Callable[..., Settings]) -> None:
    insert_events(database, plain_events(200))
    with pytest.raises(Terminal, match="SPILLWAY_ARCHIVE_URL"):
        retire()
    assert len(rows_in_order(database)) == 200


def test_a_chunk_that_another_run_has_dropped_meanwhile_is_no_failure(
    database: psycopg.Connection, tmp_path: Path, configure: Callable[..., Settings]
) -> None:
    configure(archive_url=tmp_path)
    insert_events(database, plain_events(200))
    chunk = only_chunk(database)

    @flow(persist_result=False)
    def twice() -> list[bool]:
        with Clients(settings()) as clients:
            first = archive_and_drop(clients, default_maintained(database), chunk, 8192)
            return [
                one is not None
                for one in (
                    first,
                    archive_and_drop(clients, default_maintained(database), chunk),
                    archive_and_keep(clients, default_maintained(database), chunk),
                )
            ]

    assert twice() == [True, False, False]
    dropped = database.execute("SELECT rows, bytes, dropped_by FROM spillway.drops").fetchall()
    assert dropped == [(200, 8192, "archive")]
