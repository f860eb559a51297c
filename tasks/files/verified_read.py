"""A file read from end to end, and what it is known by: its size and the SHA-256 of its bytes as they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from infra.errors.exceptions import Terminal
from tasks.files.find import SourceFile
from tasks.files.formats.blocks import RowBlock
from tasks.files.formats.read_rows import open_rows
from tasks.files.stored_bytes import StoredBytes, file_state


class VerifiedRead:
    """The rows of a file, and its size in bytes and SHA-256 (hex) once all of them have been read.

    What is read is what is hashed: a text goes through both at once, Parquet is hashed before. `keys` is there at once.
    Each iteration reads the file anew. Raises what `read_rows` does, and `Terminal` where the file changes between the
    making of this object and the end of the iteration: what was read is then to be thrown away.
    """

    keys: tuple[bytes, ...]
    size: int = 0
    sha256: str = ""

    def __init__(self, file: SourceFile, field: bytes = b"data") -> None:
        self._file = file
        self._field = field
        self._before = file_state(file)
        with _unchanged(file, self._before), closing(StoredBytes(file, hashed=False)) as stored:
            self.keys, _ = open_rows(file, field, stored)

    def __iter__(self) -> Iterator[RowBlock]:
        with _unchanged(self._file, self._before), closing(StoredBytes(self._file)) as stored:
            if self._file.format == "parquet":
                stored.drain()
            yield from open_rows(self._file, self._field, stored)[1]
            _check_size(self._file, self._before, stored)
        self.size, self.sha256 = stored.size, stored.sha256


_Look = tuple[int | None, int | None]


@contextmanager
def _unchanged(file: SourceFile, before: _Look) -> Iterator[None]:
    """Raises `Terminal` where a file is not as it was `before`, also in place of another error: that came of it."""
    try:
        yield
    except Terminal as error:
        if file_state(file) != before:
            raise _changed(file) from error
        raise
    if file_state(file) != before:
        raise _changed(file)


def _check_size(file: SourceFile, before: _Look, stored: StoredBytes) -> None:
    if before[0] is not None and stored.size != before[0]:
        raise _changed(file)


def _changed(file: SourceFile) -> Terminal:
    return Terminal(
        f"backfill: {file.display_name}: expected a file that nobody writes to, found that it changed while it was"
        " read; start the backfill again when it is complete"
    )
