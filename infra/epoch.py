"""The Unix epoch, 1970-01-01 UTC: times as microseconds since then, in Python and in SQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import LiteralString

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
POSTGRES_EPOCH_US = 946_684_800_000_000  # PostgreSQL's own times count from 2000-01-01
_MICROSECOND = timedelta(microseconds=1)
_MILLISECOND = timedelta(milliseconds=1)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 of a datetime that has an offset."""
    return (moment - EPOCH) // _MICROSECOND


def to_millis(moment: datetime) -> int:
    """Whole milliseconds since 1970 of a datetime that has an offset, rounded down."""
    return (moment - EPOCH) // _MILLISECOND


def from_micros(micros: int) -> datetime:
    """The datetime, in UTC. Raises `OverflowError` outside the years 1 to 9999."""
    return EPOCH + micros * _MICROSECOND


def timestamptz_sql(micros: LiteralString) -> LiteralString:
    """A SQL expression: the timestamptz of `micros`, an expression in microseconds since 1970; exact."""
    return f"('epoch'::timestamptz + {micros} * interval '1 microsecond')"


def micros_sql(moment: LiteralString) -> LiteralString:
    """A SQL expression: the microseconds since 1970, a bigint, of `moment`, an expression of type timestamptz."""
    return f"(extract(epoch FROM {moment}) * 1000000)::bigint"
