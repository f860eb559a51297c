"""The paths of an archive's data files: `events/day=2024-01-04/RANGE_HASH.parquet`, relative to the archive."""

from __future__ import annotations

import re
from datetime import date

HYPERTABLE = "events"
_STAMP = r"\d{8}T\d{6}(\.\d{6})?Z"
_DATA_FILE = re.compile(rf"(.*/)?{HYPERTABLE}/day=\d{{4}}-\d\d-\d\d/{_STAMP}_{_STAMP}_[0-9a-f]+\.parquet")


def data_path(day: date, name: str) -> str:
    """The path of the file for a day, relative to the root."""
    return f"{HYPERTABLE}/day={day.isoformat()}/{name}.parquet"


def is_archived(path: str) -> bool:
    """Whether a path is that of a file of an archive, as `data_path` builds it."""
    return _DATA_FILE.fullmatch(path) is not None
