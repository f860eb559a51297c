"""Read the rows of a file of any format as blocks of columns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from tasks.files.find import SourceFile
from tasks.files.formats.blocks import RowBlock
from tasks.files.formats.csv import read_records
from tasks.files.formats.ndjson import read_lines
from tasks.files.formats.parquet import read_parquet
from tasks.files.formats.spelling import PLAIN, Spellings
from tasks.files.stored_bytes import StoredBytes, open_unpacked

__all__ = ["RowBlock", "open_rows", "read_rows"]


def read_rows(file: SourceFile, field: bytes = b"data", spellings: Spellings = PLAIN) -> Iterator[RowBlock]:
    """Yield the rows of `file` in order, in blocks of about 4 MiB or 65,536 rows, whichever is smaller.

    `field`: the key under which a JSON document is stored. `spellings`: of the values of Parquet.
    Raises `Terminal` if the file is unreadable or corrupt, and `Transient` if its location may answer later.
    """
    with closing(StoredBytes(file, hashed=False)) as stored:
        yield from open_rows(file, field, stored, spellings)[1]


def open_rows(
    file: SourceFile, field: bytes, stored: StoredBytes, spellings: Spellings = PLAIN
) -> tuple[tuple[bytes, ...], Iterator[RowBlock]]:
    """The keys and the blocks of a file, as for `read_rows`. Text is read through `stored`, Parquet is not."""
    if file.format == "parquet":
        return read_parquet(file, spellings)
    fill = open_unpacked(file, stored)
    if file.format == "ndjson":
        return (field,), read_lines(fill, field, file.display_name)
    return read_records(fill, file.display_name, file.delimiter)
