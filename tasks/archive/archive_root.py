"""The location of archives: a folder, or any URL that pyarrow or fsspec has a file system for."""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import fs

from infra import locations
from infra.errors.exceptions import WrongUse
from infra.locations import open_location
from tasks.files.archive_paths import EVENTS_FOLDER

_READ_BYTES = 1024 * 1024
_OWNER_ONLY = 0o600  # an archive has the rows of a table that not everybody may read


@dataclass(frozen=True)
class ArchiveRoot:
    """A file system, and the folder in it that holds the archives. `display_name`: its URL without credentials.
    `folder`: the folder below it with the archives of one table, see `archive_folder`."""

    files: Any  # pyarrow.fs.FileSystem
    base: str
    display_name: str
    folder: str = EVENTS_FOLDER

    def path(self, relative: str) -> str:
        """The path of `relative` in the file system."""
        return f"{self.base}/{relative}" if self.base else relative

    def listed(self, relative: str, recursive: bool = False) -> dict[str, int]:
        """Sizes in bytes of the files in a folder, by path relative to the root; empty if the folder does not exist."""
        selector = fs.FileSelector(self.path(relative), allow_not_found=True, recursive=recursive)
        cut = len(self.path("x")) - 1
        infos = self.files.get_file_info(selector)
        return {info.path[cut:]: info.size for info in infos if info.type == fs.FileType.File}

    def folders(self, relative: str) -> list[str]:
        """The names of a folder's subfolders; empty if the folder does not exist."""
        infos = self.files.get_file_info(fs.FileSelector(self.path(relative), allow_not_found=True))
        return sorted(info.base_name for info in infos if info.type == fs.FileType.Directory)

    def read(self, relative: str) -> bytes:
        """The contents of a file."""
        with self.files.open_input_stream(self.path(relative)) as file:
            data: bytes = file.read()
            return data

    def fingerprint(self, relative: str) -> tuple[int, str]:
        """Size in bytes and SHA-256 of a file."""
        digest, size = hashlib.sha256(), 0
        with self.files.open_input_stream(self.path(relative)) as stream:
            while block := stream.read(_READ_BYTES):
                digest.update(block)
                size += len(block)
        return size, digest.hexdigest()

    def make_folder(self, relative: str) -> None:
        """Create a folder and its parents if they do not exist."""
        self.files.create_dir(self.path(relative), recursive=True)

    def write(self, relative: str, data: bytes) -> None:
        """Write a file. It is on disk when this returns."""
        with self.open_output(relative) as file:
            file.write(data)
        self.sync(relative)

    def open_output(self, relative: str) -> Any:
        """A stream that writes a file. A local one is readable and writable for its owner only."""
        path = self.path(relative)
        if self._local:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT, _OWNER_ONLY)
            os.fchmod(handle, _OWNER_ONLY)  # it may exist, from a run that was interrupted
            os.close(handle)
        return self.files.open_output_stream(path)

    def move(self, source: str, target: str) -> None:
        """Rename a file atomically, replacing a file of that name. The new name is on disk when this returns."""
        self.files.move(self.path(source), self.path(target))
        self.sync_folders(target)

    def remove(self, relative: str) -> None:
        """Remove a file."""
        self.files.delete_file(self.path(relative))
        self.sync_folders(relative)

    def remove_folder(self, relative: str) -> None:
        """Remove a folder and its contents."""
        self.files.delete_dir(self.path(relative))

    def sync(self, relative: str) -> None:
        """Flush a local file to disk, so that it survives a power failure. Does nothing for other file systems."""
        if self._local:
            _fsync(Path(self.path(relative)))

    def sync_folders(self, relative: str) -> None:
        """Flush the directory entries of all folders above `relative`, as `sync` does."""
        if self._local:
            folder = Path(self.path(relative)).parent
            while folder != Path(self.base).parent:
                _fsync(folder)
                folder = folder.parent

    @property
    def _local(self) -> bool:
        return isinstance(self.files, fs.LocalFileSystem)


def open_root(url: str, folder: str = EVENTS_FOLDER, source: str = "SPILLWAY_ARCHIVE_URL") -> ArchiveRoot:
    """Open a folder or URL for the archives of one table, in its `folder`. A relative URL is relative to the working
    directory. `source`: the option that the URL comes from, for messages.

    Raises `WrongUse` for an empty URL, `Terminal` for one that neither pyarrow nor fsspec knows, and `Transient` if its
    server does not answer.
    """
    if not url:
        raise WrongUse(f"archive: expected a folder or a URL in {source}, found none; set it")
    location = open_location(url, "archive", f"fix {source}")
    return ArchiveRoot(location.files, location.path, location.display_name, folder)


def translate_errors(doing: str, root: ArchiveRoot) -> AbstractContextManager[None]:
    """Raise errors of the file system as `Transient` or `Terminal`, with the step, the location and what to do."""
    return locations.translate_errors(doing, root.display_name, "check the location and SPILLWAY_ARCHIVE_URL")


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
