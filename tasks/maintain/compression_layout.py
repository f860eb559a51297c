"""How a chunk is compressed: the columns that segment its rows, and the order of rows within a segment."""

from __future__ import annotations

import re
from dataclasses import dataclass

from infra.errors.exceptions import WrongUse

TIME = "time"
_COLUMN = re.compile(r'"?(\w+)"?')
_ORDER = re.compile(r'"?(\w+)"?(?:\s+(ASC|DESC))?(?:\s+NULLS\s+(FIRST|LAST))?', re.IGNORECASE)


@dataclass(frozen=True)
class CompressionLayout:
    """`segmentby`: columns that have one value in each compressed batch. `orderby`: the order of rows in a batch.

    Both are written as the server does, without quotes and defaults: `time DESC`, `user_id`.
    """

    segmentby: tuple[str, ...] = ()
    orderby: tuple[str, ...] = ()

    @classmethod
    def parse(cls, segmentby: str, orderby: str) -> CompressionLayout:
        """Parse two comma-separated lists. If neither has the time, it comes last, as the server adds it.

        Raises `WrongUse` for an invalid list.
        """
        segments = tuple(_column(part) for part in _parts(segmentby))
        orders = tuple(_order(part) for part in _parts(orderby))
        if TIME not in segments and TIME not in (order.split()[0] for order in orders):
            orders += (f"{TIME} DESC",)
        return cls(segments, orders)

    def __str__(self) -> str:
        return f"segmentby {', '.join(self.segmentby) or '–'}, orderby {', '.join(self.orderby)}"


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text.strip() else []


def _column(text: str) -> str:
    if (found := _COLUMN.fullmatch(text)) is None:
        raise WrongUse(f"SPILLWAY_COMPRESS_SEGMENTBY: expected columns such as event_type, found {text!r}; fix it")
    return found[1]


def _order(text: str) -> str:
    if (found := _ORDER.fullmatch(text)) is None:
        raise WrongUse(f"SPILLWAY_COMPRESS_ORDERBY: expected columns such as time DESC, found {text!r}; fix it")
    column, direction, nulls = found[1], (found[2] or "ASC").upper(), (found[3] or "").upper()
    default_nulls = "FIRST" if direction == "DESC" else "LAST"
    return (
        column
        + (" DESC" if direction == "DESC" else "")
        + (f" NULLS {nulls}" if nulls and nulls != default_nulls else "")
    )
