"""An archive goes to a folder, to a URL of files or to any file system of fsspec."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from infra.errors.exceptions import Terminal
from tasks.archive.archive_root import ArchiveRoot, open_root
from tasks.archive.manifest import archive_names, load_manifest
from tasks.archive.verify import unlisted_files
from tasks.archive.write_chunk import archive_chunk
from tests.support.archives import awkward_events, insert_events, only_chunk, plain_events, rows_in_order
from tests.support.default_table import default_table
from tests.support.restored_rows import restored


def test_a_file_system_of_fsspec_holds_an_archive_as_well(database: psycopg.Connection) -> None:
    root = open_root("memory://archives/of/test")
    insert_events(database, awkward_events())
    manifest = archive_chunk(database, default_table(database), only_chunk(database), root)
    assert archive_chunk(database, default_table(database), only_chunk(database), root) == manifest
    assert restored(root, manifest) == rows_in_order(database)
    assert archive_names(root) == [manifest.name]
    assert unlisted_files(root, [manifest]) == []


def test_a_url_of_files_is_the_folder(database: psycopg.Connection, root: ArchiveRoot, folder: Path) -> None:
    insert_events(database, plain_events(10))
    manifest = archive_chunk(database, default_table(database), only_chunk(database), open_root(folder.as_uri()))
    assert load_manifest(root, manifest.name) == manifest


def test_a_place_that_takes_no_files_is_named(database: psycopg.Connection, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    insert_events(database, plain_events(10))
    with pytest.raises(Terminal, match=r"archive .*_chunk: .*/file: .*SPILLWAY_ARCHIVE_URL"):
        archive_chunk(database, default_table(database), only_chunk(database), open_root(str(tmp_path / "file")))
    assert len(rows_in_order(database)) == 10


@pytest.mark.parametrize(
    "url", ["nothing://key:geheim@bucket/x?sig=geheim", "s3://key:geheim@bucket/x?no_such_option=geheim"]
)
def test_a_url_that_nobody_knows_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(Terminal, match="SPILLWAY_ARCHIVE_URL") as error:
        open_root(url)
    assert "geheim" not in str(error.value)
