"""Predict the fate of every entry of a stream from docs/reference/mapping.md and from PostgreSQL's documentation.

This imports nothing of Spillway and follows none of its algorithms. Cases that the documents leave open are decided as
a user would expect: an entry is refused only if a column cannot be filled from it.
"""

from __future__ import annotations

import re
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

from tests.fuzz.jsonb import Members, Number, Refused, Undecided, compared, has_surrogates, parse, stored

Key = tuple[uuid.UUID, int]
Fields = Sequence[bytes]  # alternating names and values

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEY_IN_TEMPLATE = re.compile(r"\{([^{}]+)\}")
_DASHED = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PLAIN = re.compile(r"[0-9a-fA-F]{32}")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://spillway.example/event-id")
# A row of a B-tree has at most 2,704 bytes, after compression of its texts:
# https://www.postgresql.org/docs/current/btree.html. Sizes between these two are not predicted: zlib compresses better
# than the server.
_FITS, _PACKED_FITS, _PACKED_BEYOND = 2_000, 200, 2_800


class Fate(Enum):
    """The fate of an entry. The value of the two quarantined fates is the `kind` in the quarantine."""

    ROW = "row"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    CONFLICT = "conflict"


@dataclass(frozen=True)
class Column:
    """How the text of a column is made: keys, with literal text between them."""

    pieces: tuple[str, ...]  # alternating literal texts and keys
    default: str | None = None
    instead: str | None = None

    @classmethod
    def of(cls, source: str | Mapping[str, Any]) -> Column:
        table = {"key": source} if isinstance(source, str) else source
        template = table["key"] if "{" in table["key"] else f"{{{table['key']}}}"
        pieces = _KEY_IN_TEMPLATE.split(template)
        pieces[::2] = (literal.replace("{{", "{").replace("}}", "}") for literal in pieces[::2])
        return cls(tuple(pieces), table.get("default"))

    @property
    def keys(self) -> tuple[str, ...]:
        return self.pieces[1::2]


@dataclass(frozen=True)
class Layout:
    """A table of spillway.toml. `document`: the field that holds the document, for the layout "json"."""

    document: bytes | None
    time: Column
    event_id: Column
    event_type: Column
    user_id: Column
    properties: str | None
    uuid5: bool = False

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Layout:
        columns = {name: Column.of(table[name]) for name in ("time", "event_id", "event_type", "user_id")}
        is_json = table["layout"] == "json"
        uuid5 = isinstance(table["event_id"], dict) and table["event_id"].get("uuid5", False)
        document = table.get("field", "data").encode() if is_json else None
        return cls(document, **columns, properties=table.get("properties"), uuid5=uuid5)

    @property
    def columns(self) -> tuple[Column, Column, Column, Column]:
        return self.time, self.event_id, self.event_type, self.user_id


_TIME = Column(("", "time", ""), instead="timestamp")
FLAT = Layout(None, _TIME, *(Column.of(name) for name in ("event_id", "event_type", "user_id")), "properties")
JSON = Layout(b"data", FLAT.time, FLAT.event_id, FLAT.event_type, FLAT.user_id, FLAT.properties)


@dataclass(frozen=True)
class Row:
    """A row of `events`: time in microseconds since 1970; `properties` as `jsonb.stored` writes them, or None."""

    time: int
    event_id: uuid.UUID
    event_type: str
    user_id: str
    properties: str | None
    parsed: Any = field(default=None, compare=False, repr=False)  # the source of `properties`

    @property
    def key(self) -> Key:
        return self.event_id, self.time

    def has_the_same_content(self, other: Row) -> bool:
        if (self.event_type, self.user_id) != (other.event_type, other.user_id):
            return False
        if self.properties is None or other.properties is None:
            return self.properties is other.properties
        return compared(self.parsed) == compared(other.parsed)


@dataclass
class Oracle:
    """Predicts the fates of the entries of one stream, in their order. `layout` None: the two layouts that need no
    mapping."""

    layout: Layout | None
    earliest: int
    latest: int
    rows: dict[Key, Row] = field(default_factory=dict)

    def predict(self, fields: Fields) -> Fate:
        """The fate of the next entry. If it becomes a row, adds it to `rows`."""
        try:
            row = self.row(fields)
            there = self.rows.get(row.key)
            if there is not None:
                return Fate.DUPLICATE if row.has_the_same_content(there) else Fate.CONFLICT
            _check_index(row.event_type)
            _check_index(row.user_id)
        except Refused:
            return Fate.REFUSED
        self.rows[row.key] = row
        return Fate.ROW

    def row(self, fields: Fields) -> Row:
        """The row that an entry describes. Raises `Refused` if no table could hold it."""
        entry = dict(zip(fields[::2], fields[1::2], strict=True))  # the last one of a repeated field
        layout = self.layout or (JSON if b"data" in entry and b"event_id" not in entry else FLAT)
        if layout.document is None:
            texts, properties = _flat(entry, layout)
        else:
            texts, properties = _from_document(entry.get(layout.document), layout)
        time, event_id, event_type, user_id = (_text(column, texts) for column in layout.columns)
        micros = microseconds(time)
        if not self.earliest <= micros <= self.latest:
            raise Refused("outside the window")
        return Row(
            micros,
            parse_uuid(event_id, layout.uuid5),
            _storable(event_type),
            _storable(user_id),
            None if properties is _ABSENT else stored(properties),
            properties,
        )


Texts = Mapping[str, str | None]
_ABSENT = object()


def _utf8(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Refused("not UTF-8") from None


def _read(layout: Layout) -> list[str]:
    """The keys that the columns name, also those with a default or an alternative."""
    keys = [key for column in layout.columns for key in column.keys]
    return keys + [column.instead for column in layout.columns if column.instead]


def _flat(entry: Mapping[bytes, bytes], layout: Layout) -> tuple[Texts, Any]:
    texts = {key: _utf8(entry[key.encode()]) for key in _read(layout) if key.encode() in entry}
    if layout.properties is None:
        return texts, Members((_utf8(name), _utf8(value)) for name, value in entry.items())
    properties = entry.get(layout.properties.encode())
    return texts, _ABSENT if properties is None else parse(_utf8(properties))


def _from_document(document: bytes | None, layout: Layout) -> tuple[Texts, Any]:
    if document is None:
        raise Refused("no document")
    # A lone surrogate anywhere makes a document invalid Unicode. Bytes that are not UTF-8 are treated as in a flat
    # entry: they do not matter if no column reads them, and are surrogates in the tree.
    tree = parse(document.decode(errors="replace"))
    if not isinstance(tree, Members) or has_surrogates(tree):
        raise Refused("not a JSON object")
    try:
        document.decode()
    except UnicodeDecodeError:
        tree = parse(document.decode(errors="surrogateescape"))
    texts = {key: _member(tree.last(key)) for key in _read(layout)}
    if layout.properties is None:
        return texts, tree
    properties = tree.last(layout.properties)
    return texts, _ABSENT if properties is None else properties


def _member(value: Any) -> str | None:
    """The text of a member. A number keeps its spelling."""
    if value is True or value is False:
        return "true" if value else "false"
    if value is None or isinstance(value, Number):
        return value
    if isinstance(value, str) and not has_surrogates(value):
        return value
    raise Refused("neither a text, a number nor a boolean")


def _text(column: Column, texts: Texts) -> str:
    found = [texts.get(key) for key in column.keys]
    if column.instead and found == [None]:
        found = [texts.get(column.instead)]
    if None in found:
        if column.default is None:
            raise Refused("a key is missing")
        return column.default
    return "".join(piece if i % 2 == 0 else str(found[i // 2]) for i, piece in enumerate(column.pieces))


def microseconds(text: str) -> int:
    text = text.strip()
    if _NUMBER.fullmatch(text):
        number = Fraction(Decimal(text))
        size = abs(number)
        return int(number * (1_000_000 if size < 10**11 else 1_000 if size < 10**14 else 1))
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise Refused("not a time") from None


def parse_uuid(text: str, uuid5: bool) -> uuid.UUID:
    bare = text
    if text[:9].lower() == "urn:uuid:":
        bare = text[9:]
    elif text.startswith("{") and text.endswith("}"):
        bare = text[1:-1]
    if _DASHED.fullmatch(bare) or _PLAIN.fullmatch(bare):
        return uuid.UUID(bare)
    if uuid5 and text.strip():
        return uuid.uuid5(_NAMESPACE, text)
    raise Refused("not a UUID")


def _storable(text: str) -> str:
    if "\0" in text:
        raise Refused("NUL in a text")
    return text


def _check_index(text: str) -> None:
    size = len(text.encode())
    if size <= _FITS:
        return
    packed = len(zlib.compress(text.encode(), 9))
    if packed > _PACKED_BEYOND:
        raise Refused("too large for an index")
    if packed > _PACKED_FITS:
        raise Undecided(f"a text of {size} bytes that packs to {packed}")
