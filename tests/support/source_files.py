"""Source files and the rows read from them, for the tests of `tasks.files`."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.files.find import SourceFile, find_files
from tasks.files.formats import blocks, csv, ndjson, read_buffer
from tasks.files.formats.blocks import RowBlock
from tasks.files.formats.read_buffer import Fill

_NOBODY = 65_534

Fields = dict[bytes, bytes]


def zstd(data: bytes) -> bytes:
    """Compress `data` as one zstd frame."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


PACKED: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd}


def written(path: Path, data: bytes) -> SourceFile:
    """Write a file with this content; returns it as a backfill source."""
    path.write_bytes(data)
    (file,) = find_files(str(path))
    return file


def fill_from(data: bytes, most: int = 1 << 30) -> Fill:
    """A reader of `data` that returns at most `most` bytes at a time."""
    stream = io.BytesIO(data)
    return lambda buffer: stream.readinto(buffer[:most])


@contextmanager
def block_sizes(size: int, scanned: int = 1 << 20, rows: int = 1 << 16) -> Iterator[None]:
    """While the block runs, text files are read in blocks of `size` bytes, scanned in pieces of `scanned` bytes, and
    returned `rows` rows at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_buffer, "_BLOCK_BYTES", size)
        patch.setattr(ndjson, "_SCANNED_BYTES", scanned)
        patch.setattr(csv, "_SCANNED_BYTES", scanned)
        patch.setattr(blocks, "MOST_ROWS", rows)
        yield


def fields_of(blocks: Iterable[RowBlock]) -> dict[int, Fields]:
    """The fields of each row by its number. Checks that the blocks keep the promises of `RowBlock`."""
    found: dict[int, Fields] = {}
    keys: tuple[bytes, ...] | None = None
    for rows in blocks:
        assert len(rows)
        assert keys in (None, rows.keys)
        keys = rows.keys
        assert [(array.type, len(array)) for array in rows.values] == [(pa.binary(), len(rows))] * len(keys)
        columns = [array.to_pylist() for array in rows.values]
        for place, number in enumerate(rows.row.tolist()):
            assert number > max(found, default=0)
            fields = {key: column[place] for key, column in zip(keys, columns, strict=True)}
            found[number] = {key: value for key, value in fields.items() if value is not None}
    return found


@contextmanager
def as_unprivileged_user() -> Iterator[None]:
    """Run the block as a user whom file permissions restrict: root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
