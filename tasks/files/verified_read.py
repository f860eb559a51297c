"""Read a file from start to end, together with its identity: the size and the SHA-256 of its stored bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from infra.errors.exceptions import Terminal
from tasks.files.bad_source import bad_source
from tasks.files.find import SourceFile
from tasks.files.formats.blocks import RowBlock
from tasks.files.formats.read_rows import open_rows
from tasks.files.formats.spelling import PLAIN, Spellings
from tasks.files.stored_bytes import StoredBytes, file_state


class VerifiedRead:
    """The rows of a file. After an iteration, `size` (bytes) and `sha256` (hex) describe exactly what was read.

    Text is hashed while it is parsed, Parquet before. `keys` is available at once. Each iteration reads the file again.
    Raises as `read_rows`, and `Terminal` if the file changes before the iteration ends: discard its rows then.
    """

    keys: tuple[bytes, ...]
    size: int = 0
    sha256: str = ""

    def __init__(self, file: SourceFile, field: bytes = b"data", spellings: Spellings = PLAIN) -> None:
        self._file = file
        self._field = field
        self._spellings = spellings
        self._before = file_state(file)
        with _unchanged(file, self._before), closing(StoredBytes(file, hashed=False)) as stored:
            self.keys, _ = open_rows(file, field, stored, spellings)

    def __iter__(self) -> Iterator[RowBlock]:
        with _unchanged(self._file, self._before), closing(StoredBytes(self._file)) as stored:
            if self._file.format == "parquet":
                stored.drain()
            yield from open_rows(self._file, self._field, stored, self._spellings)[1]
            _check_size(self._file, self._before, stored)
        self.size, self.sha256 = stored.size, stored.sha256


_FileState = tuple[int | None, int | None]


@contextmanager
def _unchanged(file: SourceFile, before: _FileState) -> Iterator[None]:
    """Raise `Terminal` if a file differs from its state `before`. It replaces an error that the change explains."""
    try:
        yield
    except Terminal as error:
        if file_state(file) != before:
            raise _changed(file) from error
        raise
    if file_state(file) != before:
        raise _changed(file)


def _check_size(file: SourceFile, before: _FileState, stored: StoredBytes) -> None:
    if before[0] is not None and stored.size != before[0]:
        raise _changed(file)


def _changed(file: SourceFile) -> Terminal:
    return bad_source(
        file.display_name,
        "expected a file that nobody writes to, found that it changed while it was read",
        "start the backfill again when it is complete",
    )
