"""Columns that stand in the path of a file, as Hive, Spark, Arrow and DuckDB write them: `year=2024/month=01/x.csv`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from urllib.parse import unquote

import msgspec
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors.exceptions import Terminal
from tasks.archive.manifest import is_archived
from tasks.columns.entries import MALFORMED
from tasks.files.formats.blocks import RowBlock

# Name and value, in the order of the path; None is a null.
PathColumns = tuple[tuple[str, str | None], ...]

_NULL = "__HIVE_DEFAULT_PARTITION__"
_INTEGER = re.compile(r"[+-]?[0-9]+")
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def parse_path_columns(path: str, display_name: str) -> PathColumns:
    """The pairs of all folders `NAME=VALUE` in a path, percent-decoded.

    All of the path counts, also what stands above the folder that an operator named: a file has the same columns,
    and is known by the same name, however it was found. The folders of our own archive are no columns. Raises
    `Terminal` for a name with two values and for what is not UTF-8.
    """
    pairs: dict[str, str | None] = {}
    if is_archived(path):
        return ()
    for folder in path.split("/")[:-1]:
        if not folder.partition("=")[0] or "=" not in folder:
            continue
        try:
            name, value = (unquote(part, errors="strict") for part in folder.split("=", 1))
            (name + value).encode()
        except UnicodeError:
            raise Terminal(
                f"backfill: {display_name}: expected UTF-8 in its folders NAME=VALUE, found other bytes; rename the"
                " folder"
            ) from None
        known = None if value == _NULL else value
        if pairs.setdefault(name, known) != known:
            raise Terminal(
                f"backfill: {display_name}: expected one value for {name!r} in the path, found {pairs[name]!r} and"
                f" {known!r}; nothing was loaded: rename one of the folders"
            )
    return tuple(pairs.items())


def content_name(sha256: str, pairs: PathColumns) -> str:
    """What a file is known by, 64 hex digits: the SHA-256 of its bytes, or of that and its pairs if it has some, since
    the same bytes are other rows in another folder."""
    return hashlib.sha256(orjson.dumps([sha256, sorted(pairs)])).hexdigest() if pairs else sha256


def add_path_columns(rows: RowBlock, pairs: PathColumns, document: bytes | None, display_name: str) -> RowBlock:
    """Rows that have the pairs of their path as columns, or in each JSON object of the field `document`.

    Raises `Terminal` where a file has a column of that name with another value; a null is filled.
    """
    if not pairs:
        return rows
    if document is None:
        return _with_columns(rows, pairs, display_name)
    added = {name: value for name, value in pairs if value is not None}
    at = rows.keys.index(document)
    documents = [
        None if text is None else _with_members(text, added, f"{display_name}, row {row}")
        for row, text in zip(rows.row.tolist(), rows.values[at].to_pylist(), strict=True)
    ]
    return RowBlock(rows.row, rows.keys, (*rows.values[:at], pa.array(documents, pa.binary()), *rows.values[at + 1 :]))


def _with_columns(rows: RowBlock, pairs: PathColumns, display_name: str) -> RowBlock:
    own = dict(zip(rows.keys, rows.values, strict=True))
    columns: dict[bytes, pa.Array] = {}
    for name, value in pairs:
        key = name.encode()
        if value is None:
            columns[key] = own.get(key, pa.nulls(len(rows), pa.binary()))
            continue
        if key in own:
            _demand_same(rows, own[key], name, value, display_name)
        column = pa.repeat(pa.scalar(value.encode(), pa.binary()), len(rows))
        if MALFORMED in own:  # a record that could not be taken apart has no columns
            column = pc.if_else(own[MALFORMED].is_valid(), pa.scalar(None, pa.binary()), column)
        columns[key] = column
    columns |= {key: column for key, column in own.items() if key not in columns}
    return RowBlock(rows.row, tuple(columns), tuple(columns.values()))


def _demand_same(rows: RowBlock, column: pa.Array, name: str, value: str, display_name: str) -> None:
    differs = pc.not_equal(column, pa.scalar(value.encode(), pa.binary())).fill_null(False)
    numbers = pc.filter(pa.array(rows.row), differs).to_pylist()
    for row, found in zip(numbers, column.filter(differs).to_pylist(), strict=True):
        if not _same(found.decode(errors="replace"), value):
            raise _contradiction(f"{display_name}, row {row}", name, value)


def _same(found: str, value: str) -> bool:
    """Whether a value is that of the path. A folder may write a number with zeros before it: `month=01`."""
    if found == value:
        return True
    return bool(_INTEGER.fullmatch(found) and _INTEGER.fullmatch(value)) and int(found) == int(value)


def _contradiction(where: str, name: str, value: str) -> Terminal:
    return Terminal(
        f"backfill: {where}: expected {name!r} to be {value!r}, as the path says, found another value in the file;"
        " nothing was loaded: rename the folder, or write the file without that column"
    )


def _with_members(document: bytes, added: dict[str, str], where: str) -> bytes:
    """A JSON object with some members more, at its end, where they count; anything else as it is."""
    text = document.strip()
    if not added or not (text.startswith(b"{") and text.endswith(b"}")):
        return document
    _demand_same_members(text, added, where)
    inner = text[1:-1].strip()
    return b"{" + inner + (b"," if inner else b"") + orjson.dumps(added)[1:]


def _demand_same_members(text: bytes, added: dict[str, str], where: str) -> None:
    if not any(name in text for name in _quoted(tuple(added))):
        return
    try:
        members = _fields.decode(text)
    except (msgspec.DecodeError, ValueError):
        return  # it goes to quarantine as it is
    for name, value in added.items():
        raw = bytes(members.get(name, b"null"))
        found = msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode(errors="replace")
        if raw != b"null" and not _same(found, value):
            raise _contradiction(where, name, value)


def _quoted(names: Sequence[str]) -> list[bytes]:
    return [orjson.dumps(name) for name in names]
