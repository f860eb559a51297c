"""Columns in the path of a file, as Hive, Spark, Arrow and DuckDB write them: `year=2024/month=01/x.csv`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import unquote

import msgspec
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors.exceptions import Terminal
from tasks.columns.entries import MALFORMED
from tasks.files.archive_paths import is_archived
from tasks.files.bad_source import bad_source
from tasks.files.formats.blocks import RowBlock

# Pairs of name and value, in the order of the path. None is a null.
PathColumns = tuple[tuple[str, str | None], ...]

_NULL = "__HIVE_DEFAULT_PARTITION__"
_INTEGER = re.compile(r"[+-]?[0-9]+")
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def parse_path_columns(path: str, display_name: str) -> PathColumns:
    """The pairs of all folders `NAME=VALUE` in a path, percent-decoded.

    The whole path counts, including folders above the source that the operator named. So a file has the same columns
    and the same ledger name however it is found. Folders of our own archive are not columns.
    Raises `Terminal` for a name with two values and for text that is not UTF-8.
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
            raise bad_source(
                display_name, "expected UTF-8 in its folders NAME=VALUE, found other bytes", "rename the folder"
            ) from None
        known = None if value == _NULL else value
        if pairs.setdefault(name, known) != known:
            raise bad_source(
                display_name,
                f"expected one value for {name!r} in the path, found {pairs[name]!r} and {known!r}",
                "rename one of the folders",
            )
    return tuple(pairs.items())


def content_name(sha256: str, pairs: PathColumns) -> str:
    """The identity of a file, 64 hex digits: the SHA-256 of its bytes, combined with its path columns if it has any.

    The same bytes are different rows in another folder.
    """
    return hashlib.sha256(orjson.dumps([sha256, sorted(pairs)])).hexdigest() if pairs else sha256


def add_path_columns(rows: RowBlock, pairs: PathColumns, document: bytes | None, display_name: str) -> RowBlock:
    """Add the pairs of the path to rows as columns, or as members of each JSON object in the field `document`.

    A null in a column of the same name is filled. Raises `Terminal` if that column has another value.
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
    values = (*rows.values[:at], pa.array(documents, pa.binary()), *rows.values[at + 1 :])
    return replace(rows, values=values)


def _with_columns(rows: RowBlock, pairs: PathColumns, display_name: str) -> RowBlock:
    existing = dict(zip(rows.keys, rows.values, strict=True))
    columns: dict[bytes, pa.Array] = {}
    for name, value in pairs:
        key = name.encode()
        if value is None:
            columns[key] = existing.get(key, pa.nulls(len(rows), pa.binary()))
            continue
        if key in existing:
            _check_column(rows, existing[key], name, value, display_name)
        column = pa.repeat(pa.scalar(value.encode(), pa.binary()), len(rows))
        if MALFORMED in existing:  # a malformed record has no columns
            column = pc.if_else(existing[MALFORMED].is_valid(), pa.scalar(None, pa.binary()), column)
        columns[key] = column
    columns |= {key: column for key, column in existing.items() if key not in columns}
    texts = {name.encode() for name, value in pairs if value is not None}
    return RowBlock(rows.row, tuple(columns), tuple(columns.values()), rows.json_keys - texts)


def _check_column(rows: RowBlock, column: pa.Array, name: str, value: str, display_name: str) -> None:
    differs = pc.not_equal(column, pa.scalar(value.encode(), pa.binary())).fill_null(False)
    numbers = pc.filter(pa.array(rows.row), differs).to_pylist()
    for row, found in zip(numbers, column.filter(differs).to_pylist(), strict=True):
        if not _is_same_value(found.decode(errors="replace"), value):
            raise _contradiction(f"{display_name}, row {row}", name, value)


def _is_same_value(found: str, value: str) -> bool:
    """Whether a value equals that of the path. Integers may have leading zeros: `month=01`."""
    if found == value:
        return True
    return bool(_INTEGER.fullmatch(found) and _INTEGER.fullmatch(value)) and int(found) == int(value)


def _contradiction(row_name: str, name: str, value: str) -> Terminal:
    return bad_source(
        row_name,
        f"expected {name!r} to be {value!r} as in the path, found another value in the file",
        "rename the folder, or write the file without that column",
    )


def _with_members(document: bytes, added: dict[str, str], row_name: str) -> bytes:
    """Add members at the end of a JSON object, since the last duplicate key counts. Other text stays unchanged."""
    text = document.strip()
    if not added or not (text.startswith(b"{") and text.endswith(b"}")):
        return document
    _check_members(text, added, row_name)
    inner = text[1:-1].strip()
    return b"{" + inner + (b"," if inner else b"") + orjson.dumps(added)[1:]


def _check_members(text: bytes, added: dict[str, str], row_name: str) -> None:
    if not any(name in text for name in _quoted(tuple(added))):
        return
    try:
        members = _fields.decode(text)
    except (msgspec.DecodeError, ValueError):
        return  # a malformed document goes to quarantine unchanged
    for name, value in added.items():
        raw = bytes(members.get(name, b"null"))
        found = msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode(errors="replace")
        if raw != b"null" and not _is_same_value(found, value):
            raise _contradiction(row_name, name, value)


def _quoted(names: Sequence[str]) -> list[bytes]:
    return [orjson.dumps(name) for name in names]
