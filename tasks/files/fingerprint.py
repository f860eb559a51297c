"""What a file is known by: its size and the SHA-256 of its bytes as they are stored."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.files.block import Rows
from tasks.files.find import SourceFile


def fingerprint(file: SourceFile) -> tuple[int, str]:
    """Size in bytes and SHA-256 (hex) of a file as it is stored."""
    raise NotImplementedError


class Reading:
    """The rows of a file, and its size and SHA-256, in one pass where that is possible."""

    keys: tuple[bytes, ...]
    size: int
    sha256: str

    def __init__(self, file: SourceFile, field: bytes = b"data") -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Rows]:
        raise NotImplementedError
