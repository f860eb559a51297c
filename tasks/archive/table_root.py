"""Where the archives of a table are."""

from __future__ import annotations

from tasks.archive.archive_root import ArchiveRoot, open_root
from tasks.files.archive_paths import archive_folder
from tasks.maintain.maintained_table import MaintainedTable


def table_root(one: MaintainedTable) -> ArchiveRoot:
    """The location of a table's archives, from its options. Raises as `open_root`."""
    return open_root(one.options.archive_url, archive_folder(one.table), one.options.source("archive_url"))
