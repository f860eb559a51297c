"""The manifest of an archive: what it holds, file by file. Only what a manifest lists counts.

Below the root:

    events/day=2024-01-04/NAME.parquet      the rows of that day (UTC) of one chunk
    events/_manifests/NAME.json             written last
    events/_writing/NAME/                   not finished

where NAME is the chunk's range and the hash of its rows (and of its columns, if they are not those of schema.sql): the
same rows have the same name. Readers of such folders skip
what begins with an underscore.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson

from infra.errors.exceptions import Terminal
from infra.errors.redact import one_line
from tasks.archive.archive_root import ArchiveRoot
from tasks.archive.column_forms import STANDARD_COLUMNS, Column, schema_of
from tasks.table.chunks import Chunk

# 1: the columns of schema.sql. 2: any columns, which the manifest lists.
_PLAIN, _LISTED = 1, 2
HYPERTABLE = "events"
MANIFESTS = f"{HYPERTABLE}/_manifests"
WRITING = f"{HYPERTABLE}/_writing"
_MICROSECOND = timedelta(microseconds=1)
_STAMP = r"\d{8}T\d{6}(\.\d{6})?Z"
_DATA_FILE = re.compile(rf"(.*/)?{HYPERTABLE}/day=\d{{4}}-\d\d-\d\d/{_STAMP}_{_STAMP}_[0-9a-f]+\.parquet")


class BadArchive(Terminal):
    """An archive that does not hold what its manifest says."""


@dataclass(frozen=True)
class ArchivedFile:
    """The rows of one day. `path` is below the root, `bytes` its size; `content_hash` is of its rows: see `Content`."""

    path: str
    day: date
    rows: int
    bytes: int
    sha256: str
    content_hash: str


@dataclass(frozen=True)
class Manifest:
    """All rows of one chunk at one moment, with all `columns`. `content_hash`: see `Content`; the times are None where
    there is no row."""

    chunk: Chunk
    rows: int
    min_time: datetime | None
    max_time: datetime | None
    content_hash: str
    files: tuple[ArchivedFile, ...]
    archived_at: datetime
    hypertable: str = HYPERTABLE
    columns: tuple[Column, ...] = STANDARD_COLUMNS

    @property
    def format(self) -> int:
        return _PLAIN if self.columns == STANDARD_COLUMNS else _LISTED

    @property
    def name(self) -> str:
        return archive_name(self.chunk, self.content_hash, self.columns)

    @property
    def size(self) -> int:
        """Of all files, in bytes."""
        return sum(file.bytes for file in self.files)

    def to_json(self) -> bytes:
        """With `sha256` of all the rest, so that a changed byte is seen."""
        plain = asdict(self) | {"format": self.format}
        if self.format == _PLAIN:
            del plain["columns"]
        return orjson.dumps(plain | {"sha256": _checksum(plain)}, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def range_name(chunk: Chunk) -> str:
    """What the names of all archives of a chunk's range begin with."""
    return f"{_stamp(chunk.range_start)}_{_stamp(chunk.range_end)}"


def archive_name(chunk: Chunk, content_hash: str, columns: tuple[Column, ...] = STANDARD_COLUMNS) -> str:
    """The same rows of the same range have the same name, others another one; so have other columns."""
    if columns != STANDARD_COLUMNS:
        listed = orjson.dumps([content_hash, *map(asdict, columns)], option=orjson.OPT_SORT_KEYS)
        content_hash = hashlib.sha256(listed).hexdigest()[: len(content_hash)]
    return f"{range_name(chunk)}_{content_hash}"


def data_path(day: date, name: str) -> str:
    """Where the rows of a day are, below the root."""
    return f"{HYPERTABLE}/day={day.isoformat()}/{name}.parquet"


def is_archived(path: str) -> bool:
    """Whether a path is one of a file of an archive, as `data_path` makes them."""
    return _DATA_FILE.fullmatch(path) is not None


def data_files(root: ArchiveRoot, chunk: Chunk) -> list[str]:
    """The data files of all archives of a chunk's range that are there, listed or not."""
    start, last = chunk.range_start.astimezone(UTC).date(), (chunk.range_end - _MICROSECOND).astimezone(UTC).date()
    found: list[str] = []
    for number in range((last - start).days + 1):
        folder = data_path(start + timedelta(days=number), "").rpartition("/")[0]
        found += (path for path in root.listed(folder) if path.startswith(f"{folder}/{range_name(chunk)}_"))
    return found


def manifest_path(name: str) -> str:
    """Where the manifest of an archive is, below the root."""
    return f"{MANIFESTS}/{name}.json"


def archive_names(root: ArchiveRoot) -> list[str]:
    """The names of all archives, in the order of time."""
    found = (path.rpartition("/")[2] for path in root.listed(MANIFESTS))
    return sorted(name.removesuffix(".json") for name in found if name.endswith(".json"))


def load_manifest(root: ArchiveRoot, name: str) -> Manifest:
    """Read a manifest. Raises `BadArchive` where it is not as it was written, `OSError` where it cannot be read."""
    path = manifest_path(name)
    try:
        data = root.read(path)
    except FileNotFoundError:
        raise BadArchive(f"archive {name}: {path}: expected a manifest, found no file; {DAMAGED_ADVICE}") from None
    try:
        plain: dict[str, Any] = orjson.loads(data)
        told = plain.pop("sha256")
        if plain["format"] not in (_PLAIN, _LISTED):
            found = plain["format"]
            raise BadArchive(
                f"archive {name}: {path}: expected format {_PLAIN} or {_LISTED}, found {found!r}; use a newer Spillway"
            )
        # Of what is written there, and not of what it comes to: a time can be written in several ways.
        found = _checksum(plain)
        manifest = _from_plain(plain)
    except (ArithmeticError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadArchive(
            f"archive {name}: {path}: expected a manifest, found {one_line(error)}; {DAMAGED_ADVICE}"
        ) from None
    if found != told or manifest.name != name:
        what = f"sha256 {told}, found {found}" if found != told else f"the archive {name}, found {manifest.name}"
        raise BadArchive(f"archive {name}: {path}: expected {what}; {DAMAGED_ADVICE}")
    return manifest


# A damaged archive is written anew by the next run while the rows are still in the table.
DAMAGED_ADVICE = "the chunk is not dropped by it: archive it again, or bring the file back from a copy"


def _checksum(plain: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _from_plain(plain: dict[str, Any]) -> Manifest:
    columns = tuple(Column(**column) for column in plain["columns"]) if plain["format"] == _LISTED else STANDARD_COLUMNS
    schema_of(columns)  # raises for a form that there is not
    plain = {key: value for key, value in plain.items() if key != "format"}
    chunk, files = plain["chunk"], plain["files"]
    times = {key: _time(plain[key]) for key in ("min_time", "max_time", "archived_at")}
    ranges = {key: _time(chunk[key]) for key in ("range_start", "range_end")}
    listed = (ArchivedFile(**(file | {"day": date.fromisoformat(file["day"])})) for file in files)
    return Manifest(
        **(plain | times | {"chunk": Chunk(**(chunk | ranges)), "files": tuple(listed), "columns": columns})
    )


def _time(text: str | None) -> Any:
    return None if text is None else datetime.fromisoformat(text)


def _stamp(moment: datetime) -> str:
    moment = moment.astimezone(UTC)
    micros = f".{moment.microsecond:06}" if moment.microsecond else ""
    return f"{moment.year:04}{moment:%m%dT%H%M%S}{micros}Z"
