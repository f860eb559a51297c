"""Detect the encoding of a text and the way its JSON documents are separated."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import pyarrow as pa

from infra.errors.exceptions import Terminal
from tasks.files.bad_source import bad_source
from tasks.files.formats.blocks import RowBlock
from tasks.files.formats.json_brackets import Signs, signs_of
from tasks.files.formats.read_buffer import ReadBuffer

Shape = Literal["lines", "array", "objects"]

_INSPECTED_BYTES = 1 << 20  # read at least this far to look for the end of the first line
_RECORD_SEPARATOR = b"\x1e"
# Longer marks come first: a UTF-32 mark begins with a UTF-16 mark.
_MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_UTF16_BYTES = range(8, 65)  # minimum and maximum inspected: every other byte of UTF-16 without a mark is 0
# The end of the first line of a pretty-printed document and the start of the second. Lines of NDJSON have neither.
_GOES_ON = (b"{", b"[", b",", b":")
_INNER = (b'"', b"}", b"]", b"")
_ELEMENT = (b"{", b"[")  # the start of the second, if the first ends within an array, as in GeoJSON
_LATIN1 = re.compile(rb"[A-Za-z][\xc0-\xff]")


def check_encoding(window: ReadBuffer, display_name: str) -> None:
    """Raise `Terminal` if a text begins like UTF-16 or UTF-32."""
    head = bytes(window.buffer[: min(window.size, _UTF16_BYTES[-1])])
    found = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if found is None and len(head) >= _UTF16_BYTES[0]:
        even, odd = head[::2], head[1::2]
        found = "UTF-16LE" if all(even) and not any(odd) else "UTF-16BE" if all(odd) and not any(even) else None
    if found:
        raise bad_source(
            display_name, f"expected UTF-8, found {found}", f"convert the file (iconv -f {found} -t UTF-8)"
        )


def check_utf8(rows: RowBlock, display_name: str) -> None:
    """Raise `Terminal` if rows contain letters of Latin-1 or Windows-1252 and no UTF-8 beyond ASCII.

    Other invalid bytes affect only their own rows, which go to quarantine.
    """
    if all(_decodes(column) for column in rows.values):
        return
    suspect: tuple[int, int] | None = None
    for column in rows.values:
        for row, value in zip(rows.row.tolist(), column.to_pylist(), strict=True):
            if not value or value.isascii():
                continue
            if _decodes(pa.array([value])):
                return
            if suspect is None and (found := _LATIN1.search(value)):
                suspect = row, found[0][1]
    if suspect is not None:
        raise bad_source(
            f"{display_name}, row {suspect[0]}",
            f"expected UTF-8, found a letter followed by the byte 0x{suspect[1]:02x} and no UTF-8 in nearby rows, as in"
            " Latin-1 or Windows-1252",
            "convert the file (iconv -f WINDOWS-1252 -t UTF-8)",
        )


def _decodes(values: pa.Array) -> bool:
    try:
        values.cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True


def shape_of(window: ReadBuffer, display_name: str) -> tuple[Shape, bool]:
    """How the documents of a text are separated, and whether the text may continue after the window.

    `lines`: one document per line; also for text that is not JSON, since each line is validated later. `array`: the
    elements of one array of objects. `objects`: each document begins on its own line and may span several.
    Raises `Terminal` for an ambiguous text. The message does not quote the text.
    """
    more = window.more()
    while more and not _is_enough(window):
        more = window.more()
    check_encoding(window, display_name)
    text = bytes(window.buffer[: window.size])
    start = len(text) - len(text.lstrip())
    first, inner = text[start : start + 1], text[start + 1 :].lstrip()[:1]
    if first == _RECORD_SEPARATOR:
        raise _refused(display_name, "JSON text sequences of RFC 7464 (byte 0x1e before each)", "tr -d '\\036' < FILE")
    if first == b"[" and inner in (b"{", b"]"):
        return "array", more
    if first != b"{":
        return "lines", more
    line, ended, rest = text[start:].partition(b"\n")
    signs = signs_of(np.frombuffer(line, np.uint8))
    ends = signs.at[signs.depth == 0]
    if len(ends):
        _check_alone(line[int(ends[0]) + 1 :].strip(), display_name)
    elif ended and line.rstrip().endswith(_GOES_ON):
        following = rest.lstrip()[:1]
        if following in _INNER or (following in _ELEMENT and _ends_in_array(signs)):
            return "objects", more
    return "lines", more


def _ends_in_array(signs: Signs) -> bool:
    """Whether the innermost bracket that a line leaves open is that of an array."""
    opening = np.isin(signs.kind, np.frombuffer(b"{[", np.uint8))
    after = np.minimum.accumulate(signs.depth[::-1])[::-1]  # the lowest depth from each sign on
    still_open = np.flatnonzero(opening & (after >= signs.depth))
    return len(still_open) > 0 and bool(signs.kind[still_open[-1]] == ord("["))


def _is_enough(window: ReadBuffer) -> bool:
    """Whether the window holds the first line and the start of the next one."""
    if window.size >= _INSPECTED_BYTES:
        return True
    _, ended, rest = bytes(window.buffer[: window.size]).lstrip().partition(b"\n")
    return bool(ended and rest.strip())


def _check_alone(rest: bytes, display_name: str) -> None:
    """Raise `Terminal` if more follows the first document on its line."""
    if rest.startswith(b"{"):
        raise _refused(display_name, "several documents in the first line")
    if rest == b",":
        raise _refused(display_name, "a comma after the first document outside an array")


def _refused(display_name: str, found: str, how: str = "jq -c . FILE") -> Terminal:
    return bad_source(
        display_name,
        "expected one JSON document per line, an array of documents, or documents that each begin on their own line,"
        f" found {found}",
        f"convert the file ({how})",
    )
