"""No column is lost: a chunk with more than an archive holds is neither archived nor dropped."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from infra.errors import Terminal
from tasks.archive.drop import drop_archived
from tasks.archive.manifest import names
from tasks.archive.root import Root
from tasks.archive.write import archive_chunk
from tests.tasks.archive.helpers import in_order, insert, many, the_chunk

REFUSED = "found the columns tenant text; the chunk stays with all its rows"


@pytest.fixture
def rows(database: psycopg.Connection) -> Iterator[psycopg.Connection]:
    insert(database, many(100))
    yield database
    database.execute("ALTER TABLE events DROP COLUMN IF EXISTS tenant")


def add_column(connection: psycopg.Connection) -> None:
    connection.execute("ALTER TABLE events ADD COLUMN tenant text NOT NULL DEFAULT 'acme'")


def test_a_chunk_with_a_column_of_the_users_is_not_archived(rows: psycopg.Connection, root: Root) -> None:
    add_column(rows)
    before = in_order(rows)
    with pytest.raises(Terminal, match=REFUSED):
        archive_chunk(rows, the_chunk(rows), root)
    assert (names(root), in_order(rows)) == ([], before)


def test_a_column_added_between_archive_and_drop_keeps_the_chunk(rows: psycopg.Connection, root: Root) -> None:
    chunk = the_chunk(rows)
    manifest = archive_chunk(rows, chunk, root)
    add_column(rows)
    before = in_order(rows)
    with pytest.raises(Terminal, match=REFUSED):
        drop_archived(rows, chunk, manifest, root)
    assert (the_chunk(rows), in_order(rows)) == (chunk, before)


def test_a_column_that_was_added_and_dropped_again_is_no_obstacle(rows: psycopg.Connection, root: Root) -> None:
    add_column(rows)
    rows.execute("ALTER TABLE events DROP COLUMN tenant")
    chunk = the_chunk(rows)
    assert drop_archived(rows, chunk, archive_chunk(rows, chunk, root), root) == "dropped"
    assert in_order(rows) == []
