"""How a chunk is compressed: the columns that segment its rows, and the order of rows within a segment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from infra.errors.exceptions import WrongUse

_COLUMN = r'\s*(?:"((?:[^"]|"")+)"|([^\W\d][\w$]*))'
_SEGMENT = re.compile(rf"{_COLUMN}\s*(,|$)")
_ORDER = re.compile(rf"{_COLUMN}(?:\s+(ASC|DESC))?(?:\s+NULLS\s+(FIRST|LAST))?\s*(,|$)", re.IGNORECASE)
_DESCENDING = " DESC"


@dataclass(frozen=True)
class CompressionLayout:
    """`segmentby`: columns that have one value in each compressed batch. `orderby`: the order of rows in a batch, as
    pairs of a column and what follows it, such as `("time", " DESC")`; a default is not written.
    """

    segmentby: tuple[str, ...] = ()
    orderby: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(
        cls,
        segmentby: str,
        orderby: str,
        time: str = "time",
        sources: tuple[str, str] = ("SPILLWAY_COMPRESS_SEGMENTBY", "SPILLWAY_COMPRESS_ORDERBY"),
    ) -> CompressionLayout:
        """Parse two comma-separated lists, written as in SQL. If neither has the column `time`, it comes last, as the
        server adds it.

        Raises `WrongUse` for an invalid list, with its name in `sources`.
        """
        segments = tuple(_name(*found.groups()[:2]) for found in _items(_SEGMENT, segmentby, sources[0], "event_type"))
        orders = tuple(_order(found) for found in _items(_ORDER, orderby, sources[1], f"{time} DESC"))
        if time not in (*segments, *(column for column, _ in orders)):
            orders += ((time, _DESCENDING),)
        return cls(segments, orders)

    @classmethod
    def of_server(cls, segmentby: str | None, orderby: str | None, time: str) -> CompressionLayout:
        """The lists as the server shows them: it quotes names in `orderby` that need it, and none in `segmentby`."""
        segments = tuple((segmentby or "").split(",")) if segmentby else ()
        rest = cls.parse("", orderby or "", time)
        orders = rest.orderby if time not in segments else tuple(o for o in rest.orderby if o[0] != time)
        return cls(segments, orders)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of both lists."""
        return (*self.segmentby, *(column for column, _ in self.orderby))

    @property
    def segmentby_sql(self) -> str:
        """`segmentby` as a list that the server parses."""
        return ", ".join(map(_quoted, self.segmentby))

    @property
    def orderby_sql(self) -> str:
        """`orderby` as a list that the server parses."""
        return ", ".join(_quoted(column) + order for column, order in self.orderby)

    def __str__(self) -> str:
        orders = ", ".join(column + order for column, order in self.orderby)
        return f"segmentby {', '.join(self.segmentby) or '–'}, orderby {orders}"


def _items(pattern: re.Pattern[str], text: str, source: str, example: str) -> Iterator[re.Match[str]]:
    """The items of a list, one match each. Raises `WrongUse` for an invalid one."""
    at, separator = 0, "," if text.strip() else ""
    while separator:
        found = pattern.match(text, at)
        if found is None:
            wrong = text[at:].split(",")[0].strip()
            raise WrongUse(f"{source}: expected columns such as {example}, found {wrong!r}; fix it")
        yield found
        at, separator = found.end(), found.groups()[-1]


def _name(quoted: str | None, plain: str | None) -> str:
    return quoted.replace('""', '"') if quoted is not None else (plain or "").lower()


def _order(found: re.Match[str]) -> tuple[str, str]:
    quoted, plain, direction, nulls, _ = found.groups()
    descending = (direction or "").upper() == "DESC"
    default = "FIRST" if descending else "LAST"
    after = _DESCENDING if descending else ""
    if nulls and nulls.upper() != default:
        after += f" NULLS {nulls.upper()}"
    return _name(quoted, plain), after


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)
