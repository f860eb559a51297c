"""Find the files that a backfill reads: a path, a folder, a glob, or a URL of any of these.

Globs are matched here, not by fsspec: its `glob` takes names that begin with `_` or `.`, does not enter linked folders,
and on a pyarrow file system fails for the whole folder if one name is not UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pyarrow import fs

from infra.errors.exceptions import WrongUse
from infra.locations import Location, open_location, translate_errors
from tasks.files.bad_source import bad_source
from tasks.files.partition import PathColumns, parse_path_columns

Format = Literal["ndjson", "csv", "parquet"]
Compression = Literal["gzip", "zstd"]

_FORMATS: dict[str, Format] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".geojson": "ndjson",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_KNOWN = (
    f"a name that ends with {', '.join(_FORMATS)}, or with {', '.join(_COMPRESSIONS)} after one that is not Parquet"
)

_MAGIC = frozenset("*?[")  # the characters that make a path a glob
_HIDDEN = ("_", ".")  # prefixes of names that are not data: unfinished files, checksums, versions
_ADVICE = "correct the source"
_LISTED_NAMES = 3  # names that a message lists


@dataclass(frozen=True)
class SourceFile:
    """A file to backfill.

    `path`: within the file system `files`. `display_name`: for messages and the ledger, an absolute path or a URL
    without credentials. `compression`: of the whole file; None for Parquet, which compresses its pages.
    `path_columns`: the columns in its path, such as `year=2024`.
    """

    files: Any  # pyarrow.fs.FileSystem
    path: str
    display_name: str
    format: Format
    compression: Compression | None
    path_columns: PathColumns = ()

    @property
    def delimiter(self) -> bytes:
        """The byte between two values of CSV."""
        name = self.path.lower()
        return b"\t" if (name.rpartition(".")[0] if self.compression else name).endswith(".tsv") else b","


def find_files(source: str, warnings: list[str] | None = None) -> list[SourceFile]:
    """The files that `source` names, sorted by path.

    `source`: a path, or a URL that pyarrow or fsspec can open. It names a file, a folder with all its subfolders, or a
    glob (`*`, `?`, `[…]`, and `**` for any number of folders). Folders and wildcards skip names that begin with `_` or
    `.`, and files of an unknown kind. Names that are not UTF-8 are skipped and added to `warnings`.
    Raises `Terminal` if nothing is found, if the kind of the files is unknown, or if a folder cannot be read.
    """
    if not source:
        raise WrongUse("backfill: expected a source, found an empty text; name a path, a folder, a glob or a URL")
    warnings = [] if warnings is None else warnings
    location = open_location(source, "backfill", f"nothing was loaded; {_ADVICE}")
    with translate_errors(
        "backfill: find files", location.display_name, "fix its permissions (chmod +r), or correct the source"
    ):
        (info,) = location.files.get_file_info([location.path])
        if info.type == fs.FileType.File:
            return [_named_file(location)]
        if info.type == fs.FileType.Directory:
            return _known_files(location, _list_folder(location, location.path, warnings), "files in that folder")
        if info.type == fs.FileType.NotFound and _MAGIC & set(location.path):
            return _known_files(location, _match_glob(location, warnings), "files that match that glob")
    found = "no such path" if info.type == fs.FileType.NotFound else "a device, a pipe or a socket"
    raise bad_source(location.display_name, f"expected a file, a folder or a glob, found {found}", _ADVICE)


def _kind(path: str) -> tuple[Format, Compression | None] | None:
    """The format and the compression that the name of a file implies. None if unknown."""
    name, dot, last = path.lower().rpartition(".")
    compression = _COMPRESSIONS.get(dot + last)
    if compression is not None:
        name, dot, last = name.rpartition(".")
    form = _FORMATS.get(dot + last)
    return None if form is None or (form == "parquet" and compression is not None) else (form, compression)


def _source_file(location: Location, path: str) -> SourceFile | None:
    kind = _kind(path)
    display_name = location.display_name_of(path)
    return kind and SourceFile(location.files, path, display_name, *kind, parse_path_columns(path, display_name))


def _named_file(location: Location) -> SourceFile:
    file = _source_file(location, location.path)
    if file is None:
        name = location.path.rpartition("/")[2]
        raise bad_source(location.display_name, f"expected {_KNOWN}, found {name!r}", "convert the file or rename it")
    return file


def _known_files(location: Location, infos: Iterator[Any], expected: str) -> list[SourceFile]:
    """The files of a known kind among those found. Raises `Terminal` if there are none."""
    paths = sorted({info.path for info in infos if info.type == fs.FileType.File})
    if not paths:
        raise bad_source(
            location.display_name,
            f"expected {expected}, found none (names that begin with _ or . are skipped)",
            _ADVICE,
        )
    files = [file for path in paths if (file := _source_file(location, path))]
    if not files:
        names = ", ".join(repr(path.rpartition("/")[2]) for path in paths[:_LISTED_NAMES])
        raise bad_source(
            location.display_name,
            f"expected {_KNOWN}, found {len(paths)} other files, such as {names}",
            "convert the files or rename them",
        )
    return files


def _list_entries(location: Location, selector: fs.FileSelector, warnings: list[str]) -> Iterator[Any]:
    """The contents of a folder, except names that are not UTF-8: pyarrow cannot return their paths."""
    invalid = 0
    for info in location.files.get_file_info(selector):
        try:
            info.path  # noqa: B018
        except UnicodeDecodeError:
            invalid += 1
        else:
            yield info
    if invalid:
        display_name = location.display_name_of(selector.base_dir)
        warnings.append(
            f"{display_name}: {invalid} names are not UTF-8 and are skipped; rename these files and load them again"
        )


def _list_folder(location: Location, folder: str, warnings: list[str]) -> Iterator[Any]:
    """Everything below a folder."""
    if location.local:
        yield from _match_pattern(location, folder, ["**"], warnings)
        return
    # One listing: an object store has no folders, and a listing per folder costs a request each.
    for info in _list_entries(location, fs.FileSelector(folder, recursive=True), warnings):
        inside = info.path.strip("/")[len(folder.strip("/")) :]
        if not any(part.startswith(_HIDDEN) for part in inside.split("/")):
            yield info


def _match_glob(location: Location, warnings: list[str]) -> Iterator[Any]:
    """The files that match a glob. A matching folder gives everything below it."""
    parts = location.path.split("/")
    first = next(number for number, part in enumerate(parts) if _MAGIC & set(part))
    folder = "/".join(parts[:first]) or ("/" if location.local else "")
    for info in _match_pattern(location, folder, parts[first:], warnings):
        if info.type == fs.FileType.Directory:
            yield from _list_folder(location, info.path, warnings)
        else:
            yield info


def _match_pattern(location: Location, folder: str, pattern: list[str], warnings: list[str]) -> Iterator[Any]:
    """Match the entries below a folder. Only a pattern that begins with `_` or `.` matches such names."""
    part, *rest = pattern
    if part == "**" and rest:
        yield from _match_pattern(location, folder, rest, warnings)
    for info in _list_entries(location, fs.FileSelector(folder, allow_not_found=True), warnings):
        name = info.path.rpartition("/")[2]
        is_folder = info.type == fs.FileType.Directory
        if name.startswith(_HIDDEN) and not part.startswith(_HIDDEN):
            continue
        if is_folder and location.local and Path(folder).resolve().is_relative_to(Path(info.path).resolve()):
            continue  # a link to a parent folder: an endless loop
        if part == "**":
            if is_folder:
                yield from _match_pattern(location, info.path, pattern, warnings)
            elif not rest:
                yield info
        elif fnmatchcase(name, part):
            if not rest:
                yield info
            elif is_folder:
                yield from _match_pattern(location, info.path, rest, warnings)
