"""The parameters of a backfill, and the checks that need no server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from infra.errors.exceptions import Terminal, WrongUse
from infra.settings import Settings
from tasks.backfill.backfill_plan import BackfillPlan

ExpiredRows = Literal["fail", "skip", "load"]


@dataclass(frozen=True)
class BackfillRequest:
    """The parameters of the flow `backfill`, which describes each of them."""

    source: Sequence[str] = ()
    stream: str | None = None
    archive: bool = False
    since: str | None = None
    until: str | None = None
    mapping: str | None = None
    again: bool = False
    expired: ExpiredRows = "fail"
    yes: bool = False
    dry_run: bool = False
    rate: float | None = None
    parallel: int | None = None
    without: Sequence[str] = ()
    table: str | None = None


def check_request(request: BackfillRequest) -> None:
    """Raise `WrongUse` for parameters that contradict each other or are out of range."""
    if bool(request.source) + bool(request.stream) + request.archive != 1:
        raise WrongUse(
            "backfill: expected files (source), or a stream, or the archive; nothing was loaded; name one of them"
        )
    if request.source and (request.since or request.until):
        raise WrongUse(
            "backfill: since and until apply only to a stream or the archive; nothing was loaded; leave them out"
        )
    if request.rate is not None and request.rate <= 0:
        raise WrongUse(f"backfill: rate: expected more than 0 events/s, found {request.rate}")
    if request.parallel is not None and request.parallel < 1:
        raise WrongUse(f"backfill: parallel: expected 1 or more, found {request.parallel}")
    if request.without and not request.archive:
        raise WrongUse("backfill: without applies only to columns of the archive; nothing was loaded; leave it out")
    if request.table and not request.archive:
        raise WrongUse(
            "backfill: table applies only to the archive; nothing was loaded; leave it out: the mapping names the table"
        )


def check_expired(planned: BackfillPlan, expired: ExpiredRows) -> None:
    """Raise `Terminal` if rows past the retention horizon need a decision. Nothing has been loaded."""
    if planned.expired and expired == "fail":
        raise Terminal(
            f"backfill: {planned.expired} of {planned.remaining} rows are older than the retention horizon"
            f" (SPILLWAY_KEEP), {planned.horizon:%Y-%m-%d}; nothing was loaded: leave them out (--expired skip), or"
            " load them until the next maintain drops them (--expired load)"
        )


def too_many_chunks(planned: BackfillPlan, config: Settings, yes: bool) -> str | None:
    """Why the new chunks of a plan need confirmation; None if they need none."""
    if yes or planned.chunk_counts.new <= config.max_new_chunks:
        return None
    return (
        f"this backfill creates {planned.chunk_counts.new} new chunks, more than SPILLWAY_MAX_NEW_CHUNKS"
        f" ({config.max_new_chunks})"
    )
