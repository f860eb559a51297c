"""Sources and what is read of them, for the tests of `tasks.files`."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from tasks.files.block import Rows
from tasks.files.find import SourceFile, find_files

_NOBODY = 65_534

Fields = dict[bytes, bytes]


def zstd(data: bytes) -> bytes:
    """One frame."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


PACKED: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd}


def written(path: Path, data: bytes) -> SourceFile:
    """A file with this content, found by its path."""
    path.write_bytes(data)
    (file,) = find_files(str(path))
    return file


def in_blocks(data: bytes, size: int) -> list[bytes]:
    """Of `size` bytes each, none empty."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def fields_of(blocks: Iterable[Rows]) -> dict[int, Fields]:
    """The fields that each row has, by its number; checked to be as `Rows` promises."""
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
def as_nobody() -> Iterator[None]:
    """As a user to whom rights apply: root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
