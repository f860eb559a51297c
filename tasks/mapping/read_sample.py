"""Reads a sample of a stream or a file, spread over all of it: what the first entries lack, later ones may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import redis

from infra.errors.exceptions import Terminal
from tasks.base.addresses import id_text, parse_id
from tasks.columns.entries import EntryColumns, RawEntry, concat_entries, page_to_columns
from tasks.files.find import SourceFile, find_files
from tasks.files.formats.read_rows import read_rows
from tasks.files.formats.spelling import PLAIN, Spellings
from tasks.files.scan import rows_to_entries
from tasks.streams.limited_reply import ReplyTooLarge, execute, execute_limited
from tasks.streams.tail import read_tail

_PARTS = 8  # of a stream: evenly spaced in time, and the newest entries
_FIRST_PAGE, _LARGEST_PAGE = 10, 250  # entries
_PAGE_BYTES = 1024 * 1024
_MOST_BYTES = 64 * 1024 * 1024
_MOST_ROWS = 1_000_000  # of a file that are read: it may be endless


def is_file(source: str) -> bool:
    """Whether a source is a file or a URL; else it is the name of a stream."""
    return "://" in source or Path(source).is_file()


def find_file(source: str) -> SourceFile:
    """The file. Raises `Terminal` if it is not one that a backfill reads."""
    return find_files(source)[0]


@dataclass(frozen=True)
class FileSample:
    """Rows of a file. `json_keys`: as in `RowBlock`."""

    groups: list[EntryColumns]
    json_keys: frozenset[bytes]


def sample_file(file: SourceFile, most: int, spellings: Spellings = PLAIN) -> FileSample:
    """About `most` rows of a file, evenly spaced. Raises as `read_rows`, and `Terminal` if it has no rows."""
    json_keys: frozenset[bytes] = frozenset()
    kept: list[EntryColumns] = []
    numbers: list[np.ndarray[Any, np.dtype[np.int64]]] = []
    stride, seen, size = 1, 0, 0
    for block in read_rows(file, spellings=spellings):
        json_keys = block.json_keys
        group = rows_to_entries(block)
        ordinal = np.arange(seen, seen + len(group))
        rows = np.flatnonzero(ordinal % stride == 0)
        if len(rows):
            kept.append(group.take(rows))
            numbers.append(ordinal[rows])
            size += kept[-1].nbytes
        seen += len(group)
        while sum(map(len, numbers)) > most or size > _MOST_BYTES:
            stride *= 2
            wanted = [np.flatnonzero(ordinals % stride == 0) for ordinals in numbers]
            kept = [group.take(at) for group, at in zip(kept, wanted, strict=True)]
            numbers = [ordinals[at] for ordinals, at in zip(numbers, wanted, strict=True)]
            size = sum(group.nbytes for group in kept)
            if sum(map(len, numbers)) <= 1:
                break
        if seen >= _MOST_ROWS:
            break
    if not seen:
        raise Terminal(f"{file.display_name}: expected rows, found none; nothing was written; name another file")
    return FileSample(concat_entries([[group] for group in kept if len(group)]), json_keys)


def sample_stream(client: redis.Redis, stream: str, most: int) -> list[EntryColumns]:
    """At most `most` entries of a stream: all, or some from each of seven evenly spaced moments on, and the newest: a
    producer may have changed a minute ago.

    Raises `Terminal` if it does not exist or is empty, and `redis.RedisError`.
    """
    tail = read_tail(client, stream)
    if tail.length <= most:
        pages = _read(client, stream, (tail.first, tail.last), most, _MOST_BYTES)
    else:
        share = most // _PARTS or 1
        newest = _read(client, stream, (tail.first, tail.last), share, _MOST_BYTES // _PARTS, backwards=True)
        pages, start, room = [], tail.first, _MOST_BYTES - _bytes(newest)
        last = parse_id(newest[0][0][0]) - 1 if newest else tail.last
        for moment in _starts(tail.first, last):
            part = _read(client, stream, (max(start, moment), last), share, room)
            start, room = parse_id(part[-1][-1][0]) + 1 if part else start, room - _bytes(part)
            pages += part
        pages += newest
    if not pages:
        raise Terminal(f"stream {stream!r}: expected entries, found none; nothing was written; name another stream")
    return concat_entries(map(page_to_columns, pages))


Page = Sequence[RawEntry]


def _read(
    client: redis.Redis, stream: str, ids: tuple[int, int], most: int, room: int, backwards: bool = False
) -> list[Page]:
    """At most `most` entries between two ids, in order: the first ones, or the last. None more after `room` bytes."""
    pages: list[Page] = []
    (first, last), page = ids, _FIRST_PAGE
    while most > 0 and room > 0 and first <= last:
        if not (entries := _page(client, stream, (first, last), min(page, most), backwards)):
            break
        size = _bytes([entries])
        most, room = most - len(entries), room - size
        page = max(1, min(_LARGEST_PAGE, 4 * page, _PAGE_BYTES * len(entries) // max(1, size)))
        if backwards:
            pages.insert(0, entries[::-1])
            last = parse_id(entries[-1][0]) - 1
        else:
            pages.append(entries)
            first = parse_id(entries[-1][0]) + 1
    return pages


def _page(client: redis.Redis, stream: str, ids: tuple[int, int], count: int, backwards: bool) -> Page:
    """At most `count` entries between two ids; only one if they are too large for a reply."""
    first, last = map(id_text, ids)
    command = ("XREVRANGE", stream, last, first, "COUNT") if backwards else ("XRANGE", stream, first, last, "COUNT")
    try:
        (reply,) = execute_limited(client, [(*command, count)])
    except ReplyTooLarge:
        (reply,) = execute(client, [(*command, 1)])
    if isinstance(reply, Exception):
        raise reply
    page: Page = reply
    return page


def _bytes(pages: Sequence[Page]) -> int:
    return sum(len(value) for page in pages for _, fields in page for value in fields)


def _starts(first: int, last: int) -> list[int]:
    """The ids from which the older parts of a stream are read."""
    return [first + (last + 1 - first) * part // (_PARTS - 1) for part in range(_PARTS - 1)]
