"""Which files a backfill reads: a path, a folder, a glob, or a URL of any of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pyarrow import fs

from infra.errors.exceptions import Terminal, WrongUse
from infra.locations import Location, open_location, translate_errors
from tasks.files.partition import PathColumns, parse_path_columns

Format = Literal["ndjson", "csv", "parquet"]
Compression = Literal["gzip", "zstd"]

_FORMATS: dict[str, Format] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_KNOWN = (
    f"a name that ends with {', '.join(_FORMATS)}, or with {', '.join(_COMPRESSIONS)} behind one that is not Parquet"
)

_MAGIC = frozenset("*?[")  # what makes a name a glob
_HIDDEN = ("_", ".")  # names that begin so are not data: what is being written, checksums, versions
_MEND = "mend the source"
_SHOWN_NAMES = 3  # of files of an unknown kind


@dataclass(frozen=True)
class SourceFile:
    """A file to backfill.

    `path` in the file system `files`. `display_name`: for people and for the record, absolute for a local file, else a
    URL without credentials. `compression`: of the whole file; None for Parquet, which compresses inside. `pairs`: the
    columns in its path, `year=2024`.
    """

    files: Any  # pyarrow.fs.FileSystem
    path: str
    display_name: str
    format: Format
    compression: Compression | None
    path_columns: PathColumns = ()

    @property
    def delimiter(self) -> bytes:
        """What stands between two values of CSV."""
        name = self.path.lower()
        return b"\t" if (name.rpartition(".")[0] if self.compression else name).endswith(".tsv") else b","


def find_files(source: str, warnings: list[str] | None = None) -> list[SourceFile]:
    """The files that `source` stands for, in the order of their paths.

    A path, or a URL of which pyarrow or fsspec has a file system: of a file; of a folder, with all folders in it; or a
    glob (`*`, `?`, `[…]`, and `**` for any number of folders), which takes what a shell would. In folders and where a
    glob has a sign, names that begin with `_` or `.` are left out, and so are files of no known kind, unless there are
    no others. A name that is not UTF-8 is left out, which is added to `warnings`. Raises `Terminal` where nothing is
    found, the place or the kind is not known or may not be read.
    """
    if not source:
        raise WrongUse("backfill: no source is named; give a path, a folder, a glob or a URL")
    warnings = [] if warnings is None else warnings
    place = open_location(source, "backfill", _MEND)
    with translate_errors("backfill: look for files", place.display_name, "mend its rights (chmod +r), or the source"):
        (info,) = place.files.get_file_info([place.path])
        if info.type == fs.FileType.File:
            return [_named(place)]
        if info.type == fs.FileType.Directory:
            return _known(place, _below(place, place.path, warnings), "files in that folder")
        if info.type == fs.FileType.NotFound and _MAGIC & set(place.path):
            return _known(place, _globbed(place, warnings), "files that fit that glob")
    found = "nothing there" if info.type == fs.FileType.NotFound else "a device, a pipe or a socket"
    raise Terminal(f"backfill: {place.display_name}: expected a file, a folder or a glob, found {found}; {_MEND}")


def _kind(path: str) -> tuple[Format, Compression | None] | None:
    """Format and compression of a file by its name; None where it is not known."""
    name, dot, last = path.lower().rpartition(".")
    compression = _COMPRESSIONS.get(dot + last)
    if compression is not None:
        name, dot, last = name.rpartition(".")
    form = _FORMATS.get(dot + last)
    return None if form is None or (form == "parquet" and compression is not None) else (form, compression)


def _source_file(place: Location, path: str) -> SourceFile | None:
    kind = _kind(path)
    display_name = place.display_name_of(path)
    return kind and SourceFile(place.files, path, display_name, *kind, parse_path_columns(path, display_name))


def _named(place: Location) -> SourceFile:
    file = _source_file(place, place.path)
    if file is None:
        name = place.path.rpartition("/")[2]
        raise Terminal(
            f"backfill: {place.display_name}: expected {_KNOWN}, found {name!r}; convert the file or rename it"
        )
    return file


def _known(place: Location, infos: Iterator[Any], expected: str) -> list[SourceFile]:
    """Those of a known kind of what was found."""
    paths = sorted({info.path for info in infos if info.type == fs.FileType.File})
    if not paths:
        raise Terminal(
            f"backfill: {place.display_name}: expected {expected}, found none: what begins with _ or . is left out;"
            f" {_MEND}"
        )
    files = [file for path in paths if (file := _source_file(place, path))]
    if not files:
        names = ", ".join(repr(path.rpartition("/")[2]) for path in paths[:_SHOWN_NAMES])
        raise Terminal(
            f"backfill: {place.display_name}: expected {_KNOWN}, found {len(paths)} files of which none has one, such"
            f" as {names}; convert the files or rename them"
        )
    return files


def _infos(place: Location, selector: fs.FileSelector, warnings: list[str]) -> Iterator[Any]:
    """What a folder has, without names that are not UTF-8: pyarrow gives no path of these."""
    odd = 0
    for info in place.files.get_file_info(selector):
        try:
            info.path  # noqa: B018
        except UnicodeDecodeError:
            odd += 1
        else:
            yield info
    if odd:
        display_name = place.display_name_of(selector.base_dir)
        warnings.append(
            f"{display_name}: {odd} names in it are not UTF-8, these are left out; rename them and load them too"
        )


def _below(place: Location, folder: str, warnings: list[str]) -> Iterator[Any]:
    """All in a folder and in the folders in it."""
    if place.local:
        yield from _fitting(place, folder, ["**"], warnings)
        return
    # In one go: an object store has no folders, and asking for each costs a request.
    for info in _infos(place, fs.FileSelector(folder, recursive=True), warnings):
        inside = info.path.strip("/")[len(folder.strip("/")) :]
        if not any(part.startswith(_HIDDEN) for part in inside.split("/")):
            yield info


def _globbed(place: Location, warnings: list[str]) -> Iterator[Any]:
    """What fits a path with signs of a glob; of a folder all that is in it."""
    parts = place.path.split("/")
    first = next(number for number, part in enumerate(parts) if _MAGIC & set(part))
    folder = "/".join(parts[:first]) or ("/" if place.local else "")
    for info in _fitting(place, folder, parts[first:], warnings):
        if info.type == fs.FileType.Directory:
            yield from _below(place, info.path, warnings)
        else:
            yield info


def _fitting(place: Location, folder: str, pattern: list[str], warnings: list[str]) -> Iterator[Any]:
    """What fits a pattern below a folder. No name that begins with `_` or `.`, unless its part of the pattern does."""
    part, *rest = pattern
    if part == "**" and rest:
        yield from _fitting(place, folder, rest, warnings)
    for info in _infos(place, fs.FileSelector(folder, allow_not_found=True), warnings):
        name = info.path.rpartition("/")[2]
        is_folder = info.type == fs.FileType.Directory
        if name.startswith(_HIDDEN) and not part.startswith(_HIDDEN):
            continue
        if is_folder and place.local and Path(folder).resolve().is_relative_to(Path(info.path).resolve()):
            continue  # a link to where we come from
        if part == "**":
            if is_folder:
                yield from _fitting(place, info.path, pattern, warnings)
            elif not rest:
                yield info
        elif fnmatchcase(name, part):
            if not rest:
                yield info
            elif is_folder:
                yield from _fitting(place, info.path, rest, warnings)
