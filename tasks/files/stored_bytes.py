"""Read the stored bytes of a file, count and hash them, and decompress them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from pyarrow import fs

from infra import locations
from infra.errors.exceptions import SpillwayError
from infra.errors.redact import one_line
from tasks.files.bad_source import bad_source
from tasks.files.find import SourceFile
from tasks.files.formats.read_buffer import Fill

_DRAIN_BUFFER_BYTES = 1024 * 1024
_LOCATION_ERRORS = (FileNotFoundError, PermissionError)  # fsspec raises them without an errno


class StoredBytes(io.RawIOBase):
    """The stored bytes of a file, from start to end. `size` and `sha256` cover what has been read so far.

    Raises `Transient` or `Terminal` for an error of the location.
    """

    def __init__(self, file: SourceFile, hashed: bool = True) -> None:
        super().__init__()
        self._file = file
        self._digest = hashlib.sha256()
        self._hashed = hashed
        self.size = 0
        with translate_location_errors(file):
            # No decompression by file name: the hash is that of the stored bytes.
            self._stream = file.files.open_input_stream(file.path, compression=None)

    @property
    def sha256(self) -> str:
        """The SHA-256 so far, 64 hex digits."""
        return self._digest.hexdigest()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer, or less of it. Returns the number of bytes; 0 at the end."""
        with memoryview(buffer) as view, translate_location_errors(self._file):
            count: int = self._stream.readinto(view)
            if self._hashed:
                self._digest.update(view[:count])
        self.size += count
        return count

    def drain(self) -> None:
        """Read to the end."""
        buffer = bytearray(_DRAIN_BUFFER_BYTES)
        while self.readinto(buffer):
            pass

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def open_unpacked(file: SourceFile, stored: StoredBytes) -> Fill:
    """A function that reads the decompressed content. Once it returns 0, all of `stored` has been read.

    The function raises `Terminal` if the file is truncated or not compressed as its name says.
    """
    kind = file.compression
    if kind is None:
        return stored.readinto
    stream = pa.CompressedInputStream(pa.PythonFile(stored, "r"), kind)

    def fill(buffer: memoryview) -> int:
        with translate_content_errors(file, kind):
            count: int = stream.readinto(buffer)
        if not count:
            stored.drain()
            if not stored.size:
                raise bad_source(file.display_name, f"expected {kind}, found an empty file", "fetch it again")
        return count

    return fill


def file_state(file: SourceFile) -> tuple[int | None, int | None]:
    """The size in bytes and the time of the last change in ns. Each is None if the location does not report it."""
    with translate_location_errors(file):
        info = file.files.get_file_info(file.path)
        if info.type != fs.FileType.File:
            raise FileNotFoundError(file.path)
        return info.size, info.mtime_ns


@contextmanager
def translate_location_errors(file: SourceFile) -> Iterator[None]:
    """Translate errors of the location of a file to `Transient` or `Terminal`."""
    with locations.translate_errors("backfill", file.display_name, "check the file and the source"):
        try:
            yield
        except FileNotFoundError:
            raise bad_source(
                file.display_name,
                "expected the file found earlier, found that it was removed",
                "put it back, or start the backfill again",
            ) from None
        except PermissionError:
            raise bad_source(
                file.display_name,
                "expected a readable file, found that it is not",
                "fix its permissions (chmod +r), or run as its owner",
            ) from None


@contextmanager
def translate_content_errors(file: SourceFile, kind: str) -> Iterator[None]:
    """Translate errors of the content to `Terminal`, and others like `translate_location_errors`."""
    try:
        yield
    except SpillwayError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        if getattr(error, "errno", None) or isinstance(error, _LOCATION_ERRORS) or locations.is_transient(error):
            with translate_location_errors(file):
                raise
        raise bad_source(
            file.display_name,
            f"expected {kind}, found it truncated or corrupt: {one_line(error)}",
            "fetch or write the file again",
        ) from error
