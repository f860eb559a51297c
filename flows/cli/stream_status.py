"""The state of each stream: its lag, when it was last drained, and how many of its entries are in quarantine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import redis

from tasks.metrics.ledger_figures import LedgerFigures, read_positions
from tasks.metrics.stream_lag import ReadPosition, read_lags


@dataclass(frozen=True)
class StreamStatus:
    """One stream. `lag`: entries that are neither drained nor known to be lost; None if Redis no longer has the stream.

    `last_drained`: when a drain last found something new in it; None if it never did. `waiting`: entries in
    quarantine that were neither redriven nor discarded. `lost`: entries that were deleted before they were drained.
    `behind_seconds`: the age of the oldest entry that is not drained; 0 if all are. `denied`: whether the user of Redis
    may not read the stream; `lag` is None then.
    """

    name: str
    lag: int | None
    last_drained: datetime | None
    waiting: int
    lost: int
    behind_seconds: float = 0.0
    denied: bool = False


def stream_statuses(
    client: redis.Redis, figures: Sequence[LedgerFigures], expected: Iterable[str] = ()
) -> list[StreamStatus]:
    """Every stream in the ledger, and those of `expected` that are not in it yet, sorted by name.

    Raises `redis.RedisError`.
    """
    known = read_positions(figures)
    by_name = {one.name: one for one in figures}
    lags, denied = read_lags(client, {**{name: ReadPosition() for name in expected}, **known})
    found = []
    for name in sorted({*known, *lags, *denied}):
        lag, one = lags.get(name), by_name.get(name)
        behind = (None, 0.0) if lag is None else (lag.entries, lag.seconds)
        drained, waiting, lost = (one.drained_at, one.waiting, one.lost) if one else (None, 0, 0)
        found.append(StreamStatus(name, behind[0], drained, waiting, lost, round(behind[1], 3), name in denied))
    return found
