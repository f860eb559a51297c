"""Read newline-delimited JSON, plain or gzip, from a file or standard input."""

from __future__ import annotations

import gzip
import io
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from infra.errors.exceptions import Terminal

STDIN = "-"

# Bounds memory for a file without newlines. Longer than any event, and far below Redis's limit of 512 MiB per value
# (proto-max-bulk-len).
MAX_LINE_BYTES = 64 * 1024 * 1024

_GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, 2.3.1


class InputFault(Terminal):
    """An error of the input. A caller can report what it sent between `what` and `next_step`."""

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(f"{what}; {next_step}")
        self.what = what
        self.next_step = next_step


class Lines:
    """The lines of `source` except blank ones, as bytes without `\\n`. A `\\r` stays, as JSON treats it as white space.

    `number` is the number of the last line returned, from 1, including blank lines. `blank` counts the blank lines.
    `size` is in bytes as stored (compressed), None if unknown.
    Iterating raises `InputFault` for a broken gzip, an unreadable file or a line over `MAX_LINE_BYTES`.
    """

    def __init__(self, source: BinaryIO, name: str, *, size: int | None = None) -> None:
        self.name = name
        self.size = size
        self.number = 0
        self.blank = 0
        self._stored = source if isinstance(source, io.BufferedReader) else io.BufferedReader(_raw(source))
        # Detected by content, so that standard input works. The name is checked to detect a broken download.
        self._gzip = self._peek() == _GZIP_MAGIC
        if name.endswith(".gz") and not self._gzip:
            raise InputFault(f"{name}: expected a gzip, found other data", _fetch_again(name))

    @property
    def position(self) -> int:
        """Bytes read so far, as stored. Only if `size` is known."""
        return self._stored.tell()

    def __iter__(self) -> Iterator[bytes]:
        plain = io.BufferedReader(gzip.GzipFile(fileobj=self._stored)) if self._gzip else self._stored
        try:
            while line := plain.readline(MAX_LINE_BYTES + 1):
                self.number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise InputFault(
                        f"{self.name}, line {self.number}: expected at most {MAX_LINE_BYTES:,} bytes, found more",
                        "split the file into one JSON document per line",
                    )
                if line.isspace():
                    self.blank += 1
                    continue
                yield line.removesuffix(b"\n")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputFault(
                f"{self.name}: the gzip is broken after line {self.number}: {error}", _fetch_again(self.name)
            ) from error
        except OSError as error:
            raise _unreadable(self.name, error) from error

    def _peek(self) -> bytes:
        try:
            return self._stored.peek(2)[:2]
        except OSError as error:
            raise _unreadable(self.name, error) from error


@contextmanager
def open_lines(source: str) -> Iterator[Lines]:
    """Open the lines of the file `source`, or of standard input for `-`. Closes the file at the end.

    Raises `InputFault` for a missing or unreadable file, or for a directory.
    """
    if source == STDIN:
        yield Lines(sys.stdin.buffer, "standard input")
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115  # its errors are distinguished from those of the body
    except OSError as error:
        raise _unreadable(source, error) from error
    with file:
        status = Path(source).stat()
        yield Lines(file, source, size=status.st_size if stat.S_ISREG(status.st_mode) else None)


def _raw(source: BinaryIO) -> io.RawIOBase:
    # BufferedReader needs only readinto(), which every binary stream has.
    return source  # type: ignore[return-value]


def _unreadable(name: str, error: OSError) -> InputFault:
    if isinstance(error, FileNotFoundError):
        return InputFault(f"{name}: no such file", "correct the path, or use - for standard input")
    if isinstance(error, IsADirectoryError):
        return InputFault(f"{name}: expected a file, found a directory", "name one .ndjson or .ndjson.gz file in it")
    if isinstance(error, PermissionError):
        return InputFault(f"{name}: permission denied", "fix its permissions (chmod +r), or run as its owner")
    return InputFault(f"{name}: cannot be read: {error.strerror or error}", "fix the file or the path")


def _fetch_again(name: str) -> str:
    return f"fetch the file again (gzip -t {name} checks it)"
