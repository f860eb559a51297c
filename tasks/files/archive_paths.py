"""The paths of an archive's data files: `events/day=2024-01-04/RANGE_HASH.parquet`, relative to the archive."""

from __future__ import annotations

import re
from datetime import date
from urllib.parse import quote

from infra.tables.read_table import is_default
from infra.tables.table import Table

EVENTS_FOLDER = "events"
_STAMP = r"\d{8}T\d{6}(\.\d{6})?Z"
_DATA_FILE = re.compile(rf"(.*/)?[^/]+/day=\d{{4}}-\d\d-\d\d/{_STAMP}_{_STAMP}_[0-9a-f]+\.parquet")


def archive_folder(table: Table) -> str:
    """The folder of a table's archives: `events`, or the table's name with its schema, such as `public.weather`.

    Characters that a path may not have are percent-encoded. No folder begins with an underscore: readers of partitioned
    folders skip such names.
    """
    if is_default(table):
        return EVENTS_FOLDER
    schema, name = (quote(part, safe="").replace(".", "%2E") for part in (table.schema, table.name))
    return re.sub("^_", "%5F", f"{schema}.{name}")


def data_path(folder: str, day: date, name: str) -> str:
    """The path of the file for a day, relative to the root. `folder`: see `archive_folder`."""
    return f"{folder}/day={day.isoformat()}/{name}.parquet"


def is_archived(path: str) -> bool:
    """Whether a path is that of a file of an archive, as `data_path` builds it."""
    return _DATA_FILE.fullmatch(path) is not None
