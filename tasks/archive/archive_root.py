"""Where archives are: a folder, or any place that pyarrow or fsspec has a file system for."""

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

_READ_BYTES = 1024 * 1024


@dataclass(frozen=True)
class ArchiveRoot:
    """A file system and the folder in it below which archives are. `shown`: for people, without credentials."""

    files: Any  # pyarrow.fs.FileSystem
    base: str
    shown: str

    def path(self, relative: str) -> str:
        """Where `relative` is in the file system."""
        return f"{self.base}/{relative}" if self.base else relative

    def listed(self, relative: str, recursive: bool = False) -> dict[str, int]:
        """Size in bytes of each file below a folder, by its path below the root; none where there is no folder."""
        selector = fs.FileSelector(self.path(relative), allow_not_found=True, recursive=recursive)
        cut = len(self.path("x")) - 1
        infos = self.files.get_file_info(selector)
        return {info.path[cut:]: info.size for info in infos if info.type == fs.FileType.File}

    def folders(self, relative: str) -> list[str]:
        """The names of the folders in a folder."""
        infos = self.files.get_file_info(fs.FileSelector(self.path(relative), allow_not_found=True))
        return sorted(info.base_name for info in infos if info.type == fs.FileType.Directory)

    def read(self, relative: str) -> bytes:
        """All of a file."""
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
        """Make a folder and those above it, where they are not there."""
        self.files.create_dir(self.path(relative), recursive=True)

    def write(self, relative: str, data: bytes) -> None:
        """Write a file that is on the disk when this returns."""
        with self.files.open_output_stream(self.path(relative)) as file:
            file.write(data)
        self.sync(relative)

    def move(self, source: str, target: str) -> None:
        """Give a file its name in one step, in place of what may have that name; it lasts when this returns."""
        self.files.move(self.path(source), self.path(target))
        self.sync_folders(target)

    def remove(self, relative: str) -> None:
        """Remove a file."""
        self.files.delete_file(self.path(relative))
        self.sync_folders(relative)

    def remove_folder(self, relative: str) -> None:
        """Remove a folder with all that is in it."""
        self.files.delete_dir(self.path(relative))

    def sync(self, relative: str) -> None:
        """Have the system put a local file on the disk: what it answers for must outlive a power cut."""
        if self._local:
            _fsync(Path(self.path(relative)))

    def sync_folders(self, relative: str) -> None:
        """The same of the names of the folders above `relative`."""
        if self._local:
            folder = Path(self.path(relative)).parent
            while folder != Path(self.base).parent:
                _fsync(folder)
                folder = folder.parent

    @property
    def _local(self) -> bool:
        return isinstance(self.files, fs.LocalFileSystem)


def open_root(url: str) -> ArchiveRoot:
    """The folder or URL `url`. Raises `Terminal` where nothing knows such a URL, `Transient` where its server is away.

    A relative folder is one below the working directory. Whatever pyarrow does not know is asked of fsspec.
    """
    if not url:
        raise WrongUse("archive: no place is set; name a folder or a URL in SPILLWAY_ARCHIVE_URL")
    place = open_location(url, "archive", "mend SPILLWAY_ARCHIVE_URL")
    return ArchiveRoot(place.files, place.path, place.display_name)


def translate_errors(doing: str, root: ArchiveRoot) -> AbstractContextManager[None]:
    """Errors of the file system as `Transient` or `Terminal`, naming the step, the place and what to do."""
    return locations.translate_errors(doing, root.shown, "look at the place and at SPILLWAY_ARCHIVE_URL")


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
