"""Random mappings of tables: as TOML for Spillway, as sources for the oracle, as names for the entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

from psycopg import sql

from tests.any_table.columns import SCHEMA
from tests.any_table.entries import Naming
from tests.any_table.sources import Source
from tests.any_table.tables import RandomTable
from tests.any_table.values import POOLS


@dataclass(frozen=True)
class RandomMapping:
    """The mapping of one stream. `sources`: of the columns that it names."""

    stream: str
    table: RandomTable
    layout: str
    nulls: tuple[str, ...]
    sources: Mapping[str, Source]

    @property
    def naming(self) -> Naming:
        return Naming({name: source.keys for name, source in self.sources.items()}, self.nulls)

    def for_file(self, name: str, layout: str, renamed: bool = True) -> RandomMapping:
        """The same mapping for files of this name. `renamed`: columns may be read from other keys."""
        return replace(self, stream=name, layout=layout, sources=self.sources if renamed else {})

    @property
    def toml(self) -> str:
        table = sql.Identifier(SCHEMA, self.table.name).as_string(None)
        lines = [f"[streams.{_text(self.stream)}]", f"table = {_text(table)}", f"layout = {_text(self.layout)}"]
        if self.nulls:
            lines.append(f"null = {_list(self.nulls)}")
        if self.sources:
            lines.append(f"[streams.{_text(self.stream)}.columns]")
            lines += [f"{_text(name)} = {_inline(source)}" for name, source in self.sources.items()]
        return "\n".join(lines) + "\n"


def random_mapping(random: Random, stream: str, table: RandomTable) -> RandomMapping:
    """A mapping with a table and little else; one in three names some columns."""
    nulls = random.choice(((), (), ("NA",), ("NA", ""), ("-", "NULL")))
    sources = {}
    if random.random() < 0.33:
        for n, column in enumerate(random.sample(table.filled, min(3, len(table.filled)))):
            way = random.randrange(4)
            keys = (f"key {n}", f"other-{n}") if way == 0 else (f"key {n}",)
            pool = POOLS[column.pool.removesuffix("[]")]
            is_array = column.pool.endswith("[]")
            default = "{}" if is_array else pool.usual(random)
            usable = way == 1 and not column.key and "\0" not in default
            sources[column.name] = Source(keys, default if usable else None, ("none",) if way == 2 else None)
    return RandomMapping(stream, table, random.choice(("flat", "json")), nulls, sources)


def _inline(source: Source) -> str:
    several = len(source.keys) > 1
    parts = [f"first_of = {_list(source.keys)}" if several else f"key = {_text(source.keys[0])}"]
    if source.default is not None:
        parts.append(f"default = {_text(source.default)}")
    if source.nulls is not None:
        parts.append(f"null = {_list(source.nulls)}")
    return f"{{ {', '.join(parts)} }}"


def _list(texts: tuple[str, ...]) -> str:
    return f"[{', '.join(map(_text, texts))}]"


def _text(text: str) -> str:
    """A basic string of TOML."""
    inner = "".join(_escaped(char) for char in text)
    return f'"{inner}"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    return f"\\u{ord(char):04x}" if ord(char) < 32 or ord(char) == 127 else char
