"""A file as columns of fields, block by block."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.files.block import Rows
from tasks.files.find import SourceFile

__all__ = ["Rows", "read_rows"]


def read_rows(file: SourceFile, field: bytes = b"data") -> Iterator[Rows]:
    """The rows of `file` in order, in blocks of bounded size. `field`: the field that holds a line of NDJSON."""
    raise NotImplementedError
