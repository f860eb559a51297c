"""The manifest of an archive describes its contents, file by file. A file that no manifest lists is not archived.

Below the root:

    events/day=2024-01-04/NAME.parquet      the rows of that day (UTC) of one chunk
    events/_manifests/NAME.json             the manifest, written last
    events/_writing/NAME/                   unfinished files

NAME is the chunk's range and the hash of its rows, and of its columns if they are not those of schema.sql. So the same
rows have the same name. Readers of partitioned folders skip names that start with an underscore. Other tables than
`events` have folders of their own, see `archive_folder`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa

from infra.errors.exceptions import Terminal
from infra.errors.redact import one_line
from tasks.archive.archive_root import ArchiveRoot
from tasks.columns.column_forms import NEVER_NULL, STANDARD_COLUMNS, Column, schema_of
from tasks.files.archive_paths import EVENTS_FOLDER, data_path
from tasks.table.chunks import Chunk

# Format 1: `events` with the columns of schema.sql. Format 2: `events` with any columns, listed in the manifest.
# Format 3: another table, named in the manifest.
_PLAIN, _LISTED, _NAMED = 1, 2, 3
MANIFESTS = "_manifests"
WRITING = "_writing"
EVENTS_ORDER = ("time", "event_id")
_MICROSECOND = timedelta(microseconds=1)


class BadArchive(Terminal):
    """An archive differs from its manifest, or its manifest is damaged."""


@dataclass(frozen=True)
class ArchivedFile:
    """The file with the rows of one day. `path` is relative to the root. `content_hash`: of its rows, see `Content`."""

    path: str
    day: date
    rows: int
    bytes: int
    sha256: str
    content_hash: str


@dataclass(frozen=True)
class Manifest:
    """All rows of one chunk at one moment, with all `columns`. `content_hash`: see `Content`. The times are None if the
    chunk had no rows.

    `hypertable`: the folder of its table, see `archive_folder`. `table`: the table's name in the ledger; empty for
    `events`. `order`: the columns that rows are sorted by, the time first; further ones are those of the unique key.
    """

    chunk: Chunk
    rows: int
    min_time: datetime | None
    max_time: datetime | None
    content_hash: str
    files: tuple[ArchivedFile, ...]
    archived_at: datetime
    hypertable: str = EVENTS_FOLDER
    columns: tuple[Column, ...] = STANDARD_COLUMNS
    table: str = ""
    order: tuple[str, ...] = EVENTS_ORDER

    @property
    def time(self) -> str:
        """The column of the time."""
        return self.order[0]

    @property
    def never_null(self) -> tuple[str, ...]:
        """The columns that the files declare as never null."""
        return NEVER_NULL if self.hypertable == EVENTS_FOLDER else (self.time,)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the files."""
        return schema_of(self.columns, self.never_null)

    @property
    def format(self) -> int:
        if self.hypertable != EVENTS_FOLDER:
            return _NAMED
        return _PLAIN if self.columns == STANDARD_COLUMNS else _LISTED

    @property
    def name(self) -> str:
        return archive_name(self.chunk, self.content_hash, self.columns)

    @property
    def size(self) -> int:
        """The size of all files in bytes."""
        return sum(file.bytes for file in self.files)

    def to_json(self) -> bytes:
        """The manifest as JSON. Its `sha256` covers everything else, so that a changed byte is detected."""
        plain = asdict(self) | {"format": self.format}
        if self.format == _PLAIN:
            del plain["columns"]
        if self.format != _NAMED:
            del plain["table"], plain["order"]
        return orjson.dumps(plain | {"sha256": _checksum(plain)}, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def range_name(chunk: Chunk) -> str:
    """The prefix of the names of all archives of a chunk's range."""
    return f"{_stamp(chunk.range_start)}_{_stamp(chunk.range_end)}"


def archive_name(chunk: Chunk, content_hash: str, columns: tuple[Column, ...] = STANDARD_COLUMNS) -> str:
    """The name of an archive. It depends on the chunk's range, its rows and its columns, and on nothing else."""
    if columns != STANDARD_COLUMNS:
        listed = orjson.dumps([content_hash, *map(asdict, columns)], option=orjson.OPT_SORT_KEYS)
        content_hash = hashlib.sha256(listed).hexdigest()[: len(content_hash)]
    return f"{range_name(chunk)}_{content_hash}"


def data_files(root: ArchiveRoot, chunk: Chunk) -> list[str]:
    """The existing data files of all archives of a chunk's range, whether a manifest lists them or not."""
    start, last = chunk.range_start.astimezone(UTC).date(), (chunk.range_end - _MICROSECOND).astimezone(UTC).date()
    found: list[str] = []
    for number in range((last - start).days + 1):
        folder = data_path(root.folder, start + timedelta(days=number), "").rpartition("/")[0]
        found += (path for path in root.listed(folder) if path.startswith(f"{folder}/{range_name(chunk)}_"))
    return found


def manifest_path(folder: str, name: str) -> str:
    """The path of a manifest in the folder of a table, relative to the root."""
    return f"{folder}/{MANIFESTS}/{name}.json"


def writing_path(folder: str, name: str) -> str:
    """The path of the folder with the unfinished files of an archive, relative to the root."""
    return f"{folder}/{WRITING}/{name}"


def archived_folders(root: ArchiveRoot) -> list[str]:
    """The folders of all tables that have archives, `events` first."""
    found = [folder for folder in root.folders("") if MANIFESTS in root.folders(folder)]
    return sorted(found, key=lambda folder: (folder != EVENTS_FOLDER, folder))


def archive_names(root: ArchiveRoot) -> list[str]:
    """The names of all archives of the root's table, in order of time."""
    found = (path.rpartition("/")[2] for path in root.listed(f"{root.folder}/{MANIFESTS}"))
    return sorted(name.removesuffix(".json") for name in found if name.endswith(".json"))


def load_manifest(root: ArchiveRoot, name: str) -> Manifest:
    """Read a manifest of the root's table.

    Raises `BadArchive` if it was changed or is missing, `OSError` if it cannot be read.
    """
    path = manifest_path(root.folder, name)
    try:
        data = root.read(path)
    except FileNotFoundError:
        raise BadArchive(f"archive {name}: {path}: expected a manifest, found no file; {DAMAGED_ADVICE}") from None
    try:
        plain: dict[str, Any] = orjson.loads(data)
        recorded = plain.pop("sha256")
        if plain["format"] not in (_PLAIN, _LISTED, _NAMED):
            found = plain["format"]
            raise BadArchive(
                f"archive {name}: {path}: expected format {_PLAIN} to {_NAMED}, found {found!r}; use a newer Spillway"
            )
        # The checksum of the text as it was written, not of the parsed values: a time can be written in several ways.
        found = _checksum(plain)
        manifest = _from_plain(plain)
    except (ArithmeticError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadArchive(
            f"archive {name}: {path}: expected a manifest, found {one_line(error)}; {DAMAGED_ADVICE}"
        ) from None
    if manifest.hypertable != root.folder:
        raise BadArchive(
            f"archive {name}: {path}: expected an archive of {root.folder}, found one of {manifest.hypertable};"
            f" {DAMAGED_ADVICE}"
        )
    if found != recorded or manifest.name != name:
        what = (
            f"sha256 {recorded}, found {found}" if found != recorded else f"the archive {name}, found {manifest.name}"
        )
        raise BadArchive(f"archive {name}: {path}: expected {what}; {DAMAGED_ADVICE}")
    return manifest


# The next run writes a damaged archive again if the rows are still in the table.
DAMAGED_ADVICE = (
    "no chunk is dropped because of it; if the chunk still exists, archive it again: spillway maintain; otherwise"
    " restore the file from a copy"
)


def _checksum(plain: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _from_plain(plain: dict[str, Any]) -> Manifest:
    listed_columns = plain.get("columns") if plain["format"] != _PLAIN else None
    columns = tuple(Column(**column) for column in listed_columns) if listed_columns else STANDARD_COLUMNS
    schema_of(columns)  # raises LookupError for an unknown form
    plain = {key: value for key, value in plain.items() if key != "format"}
    chunk, files = plain["chunk"], plain["files"]
    times = {key: _time(plain[key]) for key in ("min_time", "max_time", "archived_at")}
    ranges = {key: _time(chunk[key]) for key in ("range_start", "range_end")}
    listed = (ArchivedFile(**(file | {"day": date.fromisoformat(file["day"])})) for file in files)
    parts = {"chunk": Chunk(**(chunk | ranges)), "files": tuple(listed), "columns": columns}
    order = {"order": tuple(plain["order"])} if "order" in plain else {}
    return Manifest(**(plain | times | parts | order))


def _time(text: str | None) -> Any:
    return None if text is None else datetime.fromisoformat(text)


def _stamp(moment: datetime) -> str:
    moment = moment.astimezone(UTC)
    micros = f".{moment.microsecond:06}" if moment.microsecond else ""
    return f"{moment.year:04}{moment:%m%dT%H%M%S}{micros}Z"
