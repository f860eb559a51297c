"""Random entries for a table: usual, repeated, changed and broken ones, in every layout."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

from tests.any_table.columns import Column
from tests.any_table.tables import RandomTable
from tests.any_table.values import POOLS, TextPool
from tests.fuzz.spelling import spell_text
from tests.fuzz.spoiling import LONE_SURROGATES, NOT_UTF8

# A value before it is spelled: a text, a nested list (an array), or None for null. An absent key is not in the row.
Value = str | None | list["Value"]
Row = Mapping[str, Value]

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_REMEMBERED = 400
_JSON_ONLY = ("{}", '{"a": 1}', "[]", "[1]", "[[1, 2], [3]]", '[{"a": 1}]', "true", "1e400", "-0", "1.50", '"\\u0000"')
_JSON_ONLY += ("1E5", "[null]", '["\\u0000"]', "12345678901234567890.123", '""', "null", "false", '"null"')


@dataclass(frozen=True)
class Mix:
    """Shares of the entries."""

    same: float = 0.12  # an earlier row again, spelled in any way
    other: float = 0.08  # with the key of an earlier row, but other content
    broken: float = 0.25  # one value is of those that hardly any column accepts
    extreme: float = 0.2
    whole: float = 0.02  # the entry itself is broken


@dataclass(frozen=True)
class Naming:
    """How the keys of an entry are named. `keys`: column → its keys; one of several is chosen."""

    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    nulls: tuple[str, ...] = ()  # texts that mean null

    def of(self, column: str) -> tuple[str, ...]:
        return self.keys.get(column, (column,))


class Rows:
    """The entries of a stream into one table, from a seed."""

    def __init__(self, random: Random, table: RandomTable, naming: Naming, mix: Mix = Mix()) -> None:
        self._random = random
        self._table = table
        self._naming = naming
        self._mix = mix
        self._earlier: list[Row] = []

    def entries(self, count: int, layout: str) -> Iterator[list[bytes]]:
        """The next entries, `flat` or `json`, as alternating names and values."""
        for _ in range(count):
            row = self.row()
            broken = self._random.random() < self._mix.whole
            if layout == "flat":
                yield self._broken_flat(row) if broken else self.flat(row)
            else:
                document = self._broken_document(row) if broken else self.document(row)
                yield [b"data", document] if self._random.random() < 0.95 else [b"x", b"\xff", b"data", document]

    def row(self) -> Row:
        """A new row, or one that has something in common with an earlier one."""
        random, mix = self._random, self._mix
        way = random.random()
        if self._earlier and way < mix.same:
            return random.choice(self._earlier[-random.choice((2, 30, _REMEMBERED)) :])
        row = dict(self._usual())
        if self._earlier and way < mix.same + mix.other:
            earlier = random.choice(self._earlier)
            row |= {name: earlier[name] for name in self._table.key if name in earlier}
            if row and random.random() < 0.6:  # only one column differs
                name = random.choice(list(row))
                row = {**earlier, name: row[name]}
        elif way < mix.same + mix.other + mix.broken + mix.extreme:
            column = random.choice(self._table.filled)
            pool = pool_of(column)
            texts = (pool.edge if way > mix.same + mix.other + mix.broken else pool.bad) or pool.edge
            is_array = column.pool.endswith("[]")
            if texts:
                row[column.name] = [random.choice(texts)] if is_array else random.choice(texts)
        self._earlier.append(row)
        del self._earlier[:-_REMEMBERED]
        return row

    def _usual(self) -> Iterator[tuple[str, Value]]:
        random = self._random
        for column in self._table.filled:
            way = random.random()
            if way < (0.01 if column.key or column.required else 0.12):
                if way < 0.06:
                    yield column.name, None
                continue
            yield column.name, usual(random, column)

    # Spelling -----------------------------------------------------------------------------------------------------

    def flat(self, row: Row) -> list[bytes]:
        """The row as fields. A null is absent or one of the texts that mean null."""
        fields = []
        for name, value in self._named(row):
            if value is None:
                if self._naming.nulls:
                    fields += [name.encode(), self._random.choice(self._naming.nulls).encode()]
                continue
            text = array_literal(value) if isinstance(value, list) else value
            fields += [name.encode(), text.encode()]
        if self._random.random() < 0.1:
            fields += [b"no such column", b"\xff\0"]
        return fields or [b"nothing", b""]

    def document(self, row: Row) -> bytes:
        """The row as a JSON document."""
        random = self._random
        gap = random.choice(("", "", " ", "\n"))
        members = [
            f"{spell_text(random, name)}{gap}:{gap}{self._member(name, value)}" for name, value in self._named(row)
        ]
        if random.random() < 0.1:
            members.append('"no such column": [{"a": 1e999}, "\\u0000"]')
        if members and random.random() < 0.03:  # the last one of a repeated key counts
            members.insert(0, members[-1].partition(":")[0] + ": [{}]")
        return f"{{{gap}{f'{gap},'.join(members)}{gap}}}".encode()

    def _named(self, row: Row) -> Iterator[tuple[str, Value]]:
        items = list(row.items())
        if self._random.random() < 0.2:
            self._random.shuffle(items)
        for column, value in items:
            keys = self._naming.of(column)
            if keys:
                yield self._random.choice(keys), value

    def _member(self, name: str, value: Value) -> str:
        random = self._random
        if value is None:
            return random.choice(("null", *map(json.dumps, self._naming.nulls)))
        if isinstance(value, list):
            if self._column(name).pool in ("json[]", "jsonb[]"):  # the elements are JSON themselves
                return "[" + ", ".join("null" if one is None else str(one) or '""' for one in value) + "]"
            return json_array(random, value) if random.random() < 0.8 else json.dumps(array_literal(value))
        if random.random() < 0.004:
            return random.choice((*_JSON_ONLY, *(one.decode() for one in LONE_SURROGATES)))
        if self._column(name).pool in ("json", "jsonb"):
            return value or '""'
        bare = value in ("true", "false") or _NUMBER.fullmatch(value) is not None
        return value if bare and random.random() < 0.6 else spell_text(random, value)

    def _column(self, key: str) -> Column:
        return next(c for c in self._table.filled if key in self._naming.of(c.name))

    def _broken_flat(self, row: Row) -> list[bytes]:
        random = self._random
        fields = self.flat(row)
        at = random.randrange(0, len(fields), 2)
        way = random.randrange(4)
        if way == 0:
            return [b"foo", b"bar"]
        if way == 1:
            fields[at + 1] = random.choice(NOT_UTF8)
        elif way == 2:
            fields[at + 1] += b"\0"
        else:  # a repeated field: the last one counts
            fields += [fields[at], random.choice((b"", b"x", b"1"))]
        return fields

    def _broken_document(self, row: Row) -> bytes:
        random = self._random
        document = self.document(row)
        way = random.randrange(5)
        if way == 0:
            return random.choice((b"[]", b"null", b"5", b'"text"', b"{}", b"", b"{", b"{}{}", b"[{}]"))
        if way == 1:
            return document[: random.randrange(len(document))]
        name = random.choice([name for name, _ in self._named(row)] or ["x"])
        bad = random.choice((*_JSON_ONLY, *(one.decode() for one in LONE_SURROGATES)))
        if way == 2:
            return document[:-1] + b',"x":"' + random.choice(NOT_UTF8) + b'"}'
        if way == 3:
            return document[:-1].rstrip() + f", {json.dumps(name)}: {bad}}}".encode()
        return document[:-1].rstrip() + f", {json.dumps(name)}:".encode() + b'"' + random.choice(NOT_UTF8) + b'"}'


def pool_of(column: Column) -> TextPool:
    return POOLS[column.pool.removesuffix("[]")]


def usual(random: Random, column: Column) -> Value:
    """A usual value; for an array, a list of usual elements, seldom of several dimensions."""
    pool = pool_of(column)
    draw = pool.few if column.key and pool.few else pool.usual
    if not column.pool.endswith("[]"):
        return draw(random)

    def element() -> Value:
        return None if random.random() < 0.1 else pool.usual(random)

    if random.random() < 0.1 and column.pool not in ("json[]", "jsonb[]"):
        width = random.randint(1, 3)
        return [[element() for _ in range(width)] for _ in range(random.randint(1, 3))]
    return [element() for _ in range(random.randint(0, 4))]


def array_literal(value: Value) -> str:
    """An array as the server writes one."""
    if isinstance(value, list):
        return "{" + ",".join(array_literal(one) for one in value) + "}"
    if value is None:
        return "NULL"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def json_array(random: Random, value: Value) -> str:
    """An array as JSON: its elements are texts, or bare if they are numbers or truth values in JSON's spelling."""
    if isinstance(value, list):
        return "[" + random.choice((",", ", ")).join(json_array(random, one) for one in value) + "]"
    if value is None:
        return "null"
    bare = value in ("true", "false") or _NUMBER.fullmatch(value) is not None
    return value if bare and random.random() < 0.6 else spell_text(random, value)
