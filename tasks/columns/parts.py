"""Take entries apart before they are decoded: undo the encodings of their document, and split arrays into parts."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.mapping.paths import CARRIED, Path, parse_path
from infra.mapping.stream_mapping import Encoding
from tasks.columns.documents import below
from tasks.columns.entries import EntryColumns
from tasks.columns.row_layout import RowLayout

_MAX_DOCUMENT = 256 << 20  # bytes of a decompressed document: a small entry must not fill the memory


@dataclass(frozen=True)
class Parts:
    """What becomes one row each: n parts in groups. Without `each`, every entry is one part.

    `entry`: int64, n, the index of each part's entry in the batch; None if part and entry are the same.
    `number`: int64, n, the position of a part in its entry's array, from 1 on; 0 for a whole entry.
    `faults`: part → (field, reason), for what could not be taken apart.
    """

    groups: Sequence[EntryColumns]
    entry: NDArray[np.int64] | None = None
    number: NDArray[np.int64] | None = None
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.groups))


def take_apart(groups: Sequence[EntryColumns], layout: RowLayout) -> Parts:
    """The parts of the entries of a batch. Costs nothing for a mapping without `encoding` and `each`."""
    mapping = layout.mapping
    if not mapping.encodings and mapping.each is None:
        return Parts(groups)
    name = mapping.document_field
    path = parse_path(mapping.each) if mapping.each is not None else None
    found: list[EntryColumns] = []
    entries: list[int] = []
    numbers: list[int] = []
    faults: dict[int, tuple[str, str]] = {}
    first = 0
    for group in groups:
        ids: list[bytes] = []
        documents: list[bytes | None] = []
        for at, (entry_id, document) in enumerate(
            zip(group.ids.to_pylist(), group.column(name).to_pylist(), strict=True)
        ):
            try:
                items = _items(document, mapping.encodings, path, layout.shared_keys)
            except ValueError as error:
                faults[len(entries)] = (name.decode(errors="replace"), str(error))
                items = [(0, None)]
            for number, item in items:
                ids.append(entry_id)
                documents.append(item)
                entries.append(first + at)
                numbers.append(number)
        found.append(EntryColumns(pa.array(ids, pa.binary()), (name,), (pa.array(documents, pa.binary()),)))
        first += len(group)
    return Parts(found, np.array(entries, np.int64), np.array(numbers, np.int64), faults)


def _items(
    document: bytes | None, encodings: Sequence[Encoding], path: Path | None, shared: Collection[str]
) -> list[tuple[int, bytes | None]]:
    """The parts of one document with their numbers. Raises `ValueError` with the reason if it cannot be taken apart.

    `shared`: see `RowLayout.shared_keys`.
    """
    if document is None:
        return [(0, None)]
    for encoding in encodings:
        try:
            document = _DECODERS[encoding](document)
        except (OSError, EOFError, ValueError, zlib.error, pa.ArrowException, msgspec.MsgspecError) as error:
            raise ValueError(f"expected {encoding}, found something else ({error})") from None
    if path is None:
        return [(0, document)]
    try:
        array = below(document, path)
        if array is None or array[:1] != b"[":
            raise ValueError(
                f"expected an array at {_spelled(path)}, found {'nothing' if array is None else 'no array'}"
            )
        items = list(map(bytes, msgspec.json.decode(array, type=list[msgspec.Raw])))
        if shared:
            whole = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
            kept = msgspec.json.encode({key: value for key, value in whole.items() if key in shared})
            items = [_with_shared(item.strip(), kept) for item in items]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return list(enumerate(items, 1))


def _with_shared(item: bytes, shared: bytes) -> bytes:
    """An element with keys of the whole document below `$`. One that is no object has no keys to read."""
    if item[:1] != b"{":
        return item
    comma = b"" if item[1:-1].strip() == b"" else b","
    return b'%b%b"%b":%b}' % (item[:-1], comma, CARRIED.encode(), shared)


def _spelled(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _gunzip(data: bytes) -> bytes:
    found = bytearray()
    while True:  # one gzip or zlib stream after the other
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        found += inflater.decompress(data, _MAX_DOCUMENT + 1 - len(found))
        if len(found) > _MAX_DOCUMENT:
            raise ValueError(f"more than {_MAX_DOCUMENT >> 20} MB")
        if not inflater.eof:
            raise ValueError("it is truncated")
        if not inflater.unused_data:
            return bytes(found)
        data = inflater.unused_data


def _unzstd(data: bytes) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        found: bytes = stream.read(_MAX_DOCUMENT + 1)
    if len(found) > _MAX_DOCUMENT:
        raise ValueError(f"more than {_MAX_DOCUMENT >> 20} MB")
    return found


def _unbase64(data: bytes) -> bytes:
    text = data.strip().translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _unmsgpack(data: bytes) -> bytes:
    value: Any = msgspec.msgpack.decode(data)
    return msgspec.json.encode(value)


_DECODERS = {"gzip": _gunzip, "zstd": _unzstd, "base64": _unbase64, "msgpack": _unmsgpack}
