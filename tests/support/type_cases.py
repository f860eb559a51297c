"""Texts for columns of every type, and what the server makes of each: for unit tests and for tests on a server.

For timestamptz, timestamp, date and uuid, Spillway decides itself what a text means. Their cases also say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.tables.table import TableColumn
from tests.support.type_texts import JUDGED, REFUSED, SERVER_ONLY, UNDERSTOOD

# Creates the types of `COLUMNS` that no server has, in the schema of temporary tables.
CREATE_TYPES = """
    CREATE TYPE pg_temp.mood AS ENUM ('sad', 'ok', 'so happy', 'glücklich');
    CREATE DOMAIN pg_temp.positive AS int4 CHECK (VALUE > 0);
    CREATE DOMAIN pg_temp.short AS varchar(3);
    CREATE DOMAIN pg_temp.mixed AS pg_temp.mood CHECK (VALUE <> 'sad')"""

_BASES = {
    "boolean": "bool",
    "smallint": "int2",
    "integer": "int4",
    "bigint": "int8",
    "real": "float4",
    "double precision": "float8",
    "character varying": "varchar",
    "character": "bpchar",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "time without time zone": "time",
    "time with time zone": "timetz",
    "bit varying": "varbit",
    "positive": "int4",
    "short": "varchar",
    "mixed": "mood",
}
_KINDS = {"mood": "e", "int4range": "r"}
_DOMAINS = ("positive", "short", "mixed")


def column_of(kind: str) -> TableColumn:
    """A nullable column `c` of a type, spelled as PostgreSQL does."""
    name = kind.removesuffix("[]")
    plain, _, rest = name.partition("(")
    plain += rest.partition(")")[2]
    base = _BASES.get(plain, plain)
    constrained = "(" in name or plain in _DOMAINS
    if kind.endswith("[]"):
        return TableColumn("c", kind, f"_{base}", constrained=constrained)
    return TableColumn("c", kind, base, kind=_KINDS.get(base, "b"), constrained=constrained)


@dataclass(frozen=True)
class TypeCase:
    """A text for a column of a type.

    `value`: the text that the server shows for it, in UTC; None if the value is refused. `binary`: Spillway understands
    the text, so that it travels in a binary COPY. `judged`: Spillway refuses the text itself.
    """

    kind: str
    text: str
    value: str | None
    binary: bool = True
    judged: bool = False

    @property
    def column(self) -> TableColumn:
        """The column."""
        return column_of(self.kind)


def _cases() -> Sequence[TypeCase]:
    def of(groups: Mapping[str, Mapping[str, str]], binary: bool) -> list[TypeCase]:
        return [TypeCase(kind, text, value, binary) for kind, texts in groups.items() for text, value in texts.items()]

    refused = [TypeCase(kind, text, None, binary=binary) for kind, (binary, texts) in REFUSED.items() for text in texts]
    judged = [TypeCase(kind, text, None, judged=True) for kind, texts in JUDGED.items() for text in texts]
    return [*of(UNDERSTOOD, True), *of(SERVER_ONLY, False), *refused, *judged]


CASES = _cases()
TYPES = tuple(dict.fromkeys(case.kind for case in CASES))


def _binary_texts() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for case in CASES:
        if case.binary and case.value is not None and (case.kind != "bytea" or case.text.startswith("\\x")):
            found.setdefault(case.kind, []).append(case.text)
    return {name: found[name] for name in TYPES if name in found}


# Type → texts that travel together in a binary COPY. bytea reads hexadecimal and plain texts only apart.
BINARY_TEXTS = _binary_texts()
