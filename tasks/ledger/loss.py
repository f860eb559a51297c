"""The second law of the ledger, in pure functions: entries ever added = baseline + read + lost."""

from __future__ import annotations

from dataclasses import dataclass

from infra.display import count_of
from infra.errors.exceptions import Terminal
from tasks.base.addresses import IdRange, id_text
from tasks.ledger.plan import DrainPlan
from tasks.streams.tail import Tail


@dataclass(frozen=True)
class LedgerFacts:
    """What the ledger has of a stream after a drain.

    `baseline`: entries removed before the stream was first seen. `read`, `lost`: in total, up to now.
    `settled_id`: the last settled tail, -1 before the first. `watermark`: all ids before it are drained, 0 if none.
    `drained_to`: the end of the last drained range, 0 if there is none.
    """

    baseline: int
    read: int
    lost: int
    settled_id: int
    watermark: int
    drained_to: int


@dataclass(frozen=True)
class Loss:
    """Entries found lost by one settlement, all of them with ids within `ids`. None are lost if `ids` is None."""

    count: int
    ids: IdRange | None


def find_loss(plan: DrainPlan, now: Tail, facts: LedgerFacts) -> Loss | None:
    """What the settlement of the planned tail has to record, or None if the tail is not to be settled by this run.

    `now`: the tail at the moment of the settlement. A tail is settled by the run that drains exactly up to it: if
    another run has drained further, the totals cover more than this tail, and that run settles. Nor is it settled as
    long as another run works on a part of it. Raises `Terminal` if more was read than was ever added, or if the stream
    does not explain a loss.
    """
    tail = plan.tail
    if not plan.whole or facts.drained_to != tail.last + 1 or facts.settled_id > tail.last:
        return None
    if facts.watermark != facts.drained_to:
        return None
    added = tail.added - facts.baseline
    lost = added - facts.read - facts.lost
    if lost < 0:
        raise Terminal(
            f"settle: stream {plan.stream}: the books do not balance: expected at most {added} entries, by its"
            f" entries-added, found {facts.read} read and {facts.lost} lost; nothing was recorded, published or"
            " trimmed; find out who restored or edited the stream (XSETID): see «The books do not balance» in"
            " docs/operations.md"
        )
    return Loss(lost, explain_loss(plan, now, facts, lost) if lost else None)


def explain_loss(plan: DrainPlan, now: Tail, facts: LedgerFacts, lost: int) -> IdRange:
    """The range that contains the ids of all `lost` entries.

    A lost entry was either trimmed, so it came before the first entry that the stream still has, or deleted, so it came
    no later than the last deleted entry. Raises `Terminal` if this does not account for all of them.
    """
    removed = now.removed - facts.baseline - facts.lost  # since the stream was first seen, and not yet known to be lost
    start = min([facts.settled_id + 1, *(gap.start for gap in plan.gaps[:1])])  # up to here everything was read
    lost_before = max(now.first, now.max_deleted + 1) if now.length else plan.tail.last + 1
    if lost <= removed and lost_before > start:
        return IdRange(start, min(lost_before, plan.tail.last + 1))
    since = f"from {id_text(start)} on"
    unread = count_of(lost, f"entry {since} was not read, but", f"entries {since} were not read, but")
    what = f"settle: stream {plan.stream}: {unread}"
    safe = "nothing was recorded as lost, and nothing was trimmed"
    if not now.length and lost <= removed:
        raise Terminal(
            f"{what} it is empty, and its tail is {id_text(plan.tail.last)}; {safe}; find out who restored or edited"
            " the stream (XSETID): see «The books do not balance» in docs/operations.md"
        )
    why = (
        f"only {max(0, removed)} were removed from it, by its length"
        if lost > removed
        else f"it has {id_text(now.first)}, and none was deleted after {id_text(now.max_deleted)}"
    )
    raise Terminal(
        f"{what} {why}: they may still be in it; {safe}; let the next drain read them: spillway stream recover"
        f" {plan.stream}"
    )
