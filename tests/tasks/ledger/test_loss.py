"""A loss is what was added and neither read nor known to be lost, if the stream shows that it was removed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors.exceptions import Terminal
from tasks.base.addresses import IdRange
from tasks.ledger.loss import LedgerFacts, Loss, explain_loss, find_loss
from tasks.ledger.plan import DrainPlan
from tasks.streams.tail import Tail

# Ten entries with the ids 1 to 10 were added; the first three were removed before the stream was first seen.
TAIL = Tail(last=10, added=10, length=7, first=4)
PLAN = DrainPlan("s", TAIL, upto=10, gaps=(IdRange(0, 11),), lag=7, fresh=True, group="g")
FACTS = LedgerFacts(baseline=3, read=7, lost=0, settled_id=-1, watermark=11, drained_to=11)


def test_a_stream_that_was_read_completely_has_lost_nothing() -> None:
    assert find_loss(PLAN, TAIL, FACTS) == Loss(0, None)
    last = 1_700_000_000_000 << 64  # an id of today
    plan = replace(PLAN, tail=replace(TAIL, last=last), upto=last)
    assert find_loss(plan, plan.tail, replace(FACTS, watermark=last + 1, drained_to=last + 1)) == Loss(0, None)


def test_nothing_is_lost_as_long_as_another_run_works_on_a_part() -> None:
    assert find_loss(PLAN, TAIL, replace(FACTS, read=2, watermark=6)) is None


def test_entries_trimmed_before_they_were_read_are_lost_before_the_first_kept_entry() -> None:
    now = replace(TAIL, length=5, first=6)
    assert find_loss(PLAN, now, replace(FACTS, read=5)) == Loss(2, IdRange(0, 6))


def test_entries_deleted_before_they_were_read_are_lost_up_to_the_last_deleted_entry() -> None:
    for last in (7, 8):
        now = replace(TAIL, length=5, max_deleted=last)
        assert find_loss(PLAN, now, replace(FACTS, read=5)) == Loss(2, IdRange(0, last + 1))


def test_an_emptied_stream_has_lost_its_entries_up_to_the_tail() -> None:
    now = replace(TAIL, length=0, first=0)
    assert find_loss(PLAN, now, replace(FACTS, read=0)) == Loss(7, IdRange(0, 11))


def test_a_known_loss_is_not_counted_again() -> None:
    now = replace(TAIL, length=4, first=7)
    facts = replace(FACTS, read=4, lost=2)
    assert find_loss(PLAN, now, facts) == Loss(1, IdRange(0, 7))
    with pytest.raises(Terminal, match=r"2 entries .* only 1 were removed"):
        find_loss(PLAN, now, replace(facts, read=3))
    with pytest.raises(Terminal, match=r"2 entries .* only 1 were removed"):
        find_loss(PLAN, replace(TAIL, length=5, first=6), replace(facts, lost=1))


def test_a_loss_lies_after_the_settled_tail_and_no_later_than_the_tail() -> None:
    later = replace(PLAN, gaps=(IdRange(6, 11),))
    now = replace(TAIL, length=0, first=0, max_deleted=50)
    assert find_loss(later, now, replace(FACTS, read=6, settled_id=5)) == Loss(1, IdRange(6, 11))
    assert find_loss(later, now, replace(FACTS, read=6, settled_id=7)) == Loss(1, IdRange(6, 11))
    assert find_loss(replace(later, gaps=()), now, replace(FACTS, read=6, settled_id=7)) == Loss(1, IdRange(8, 11))
    assert find_loss(replace(later, gaps=()), now, replace(FACTS, read=6)) == Loss(1, IdRange(0, 11))


def test_entries_added_after_the_tail_do_not_extend_the_ids_of_a_loss() -> None:
    now = Tail(last=12, added=12, length=1, first=12)
    assert find_loss(PLAN, now, replace(FACTS, read=6)) == Loss(1, IdRange(0, 11))


def test_a_loss_after_a_settled_tail_has_no_ids_and_is_an_error() -> None:
    facts = replace(FACTS, read=6, settled_id=10)
    with pytest.raises(Terminal, match=r"1 entry from 0-11 on was not read, but only 0 were removed from it"):
        find_loss(replace(PLAN, gaps=()), TAIL, facts)
    with pytest.raises(Terminal) as refused:
        find_loss(replace(PLAN, gaps=()), replace(TAIL, length=0, first=0), replace(facts, read=0))
    assert str(refused.value).startswith("settle: stream s: 7 entries from 0-11 on were not read, but it is empty")
    with pytest.raises(Terminal) as refused:
        find_loss(replace(PLAN, gaps=()), replace(TAIL, length=0, first=0), facts)
    assert str(refused.value) == (
        "settle: stream s: 1 entry from 0-11 on was not read, but it is empty, and its tail is 0-10; nothing was"
        " recorded as lost, and nothing was trimmed; find out who restored or edited the stream (XSETID): see «The"
        " books do not balance» in docs/operations.md"
    )


@pytest.mark.parametrize(
    ("plan", "facts"),
    [
        (replace(PLAN, upto=9), FACTS),  # a drain that stopped before the tail
        (PLAN, replace(FACTS, drained_to=10)),  # a part of the tail is not drained
        (PLAN, replace(FACTS, drained_to=12)),  # another run has drained further
        (PLAN, replace(FACTS, settled_id=11)),  # another run has settled further
    ],
)
def test_a_tail_is_settled_by_the_run_that_drained_exactly_up_to_it(plan: DrainPlan, facts: LedgerFacts) -> None:
    assert find_loss(plan, TAIL, replace(facts, read=5)) is None


def test_a_tail_can_be_settled_twice() -> None:
    assert find_loss(PLAN, TAIL, replace(FACTS, settled_id=10)) == Loss(0, None)


def test_more_entries_read_than_added_is_an_error_with_the_numbers() -> None:
    with pytest.raises(Terminal) as refused:
        find_loss(PLAN, TAIL, replace(FACTS, read=6, lost=2))
    assert str(refused.value) == (
        "settle: stream s: the books do not balance: expected at most 7 entries, by its entries-added, found 6 read and"
        " 2 lost; nothing was recorded, published or trimmed; find out who restored or edited the stream (XSETID): see"
        " «The books do not balance» in docs/operations.md"
    )


_TOO_FEW = "2 entries from 0-0 on were not read, but only {} were removed from it, by its length"


@pytest.mark.parametrize(
    ("now", "settled_id", "why"),
    [
        (TAIL, -1, _TOO_FEW.format(0)),
        (replace(TAIL, length=9), -1, _TOO_FEW.format(0)),
        (replace(TAIL, length=6, max_deleted=6), -1, _TOO_FEW.format(1)),
        # Enough were removed, but before the entries that were not read.
        (
            replace(TAIL, length=5, first=6, max_deleted=5),
            5,
            "2 entries from 0-6 on were not read, but it has 0-6, and none was deleted after 0-5",
        ),
        (
            replace(TAIL, length=4, max_deleted=3),
            5,
            "2 entries from 0-6 on were not read, but it has 0-4, and none was deleted after 0-3",
        ),
    ],
)
def test_a_loss_that_the_stream_does_not_explain_is_an_error(now: Tail, settled_id: int, why: str) -> None:
    plan = replace(PLAN, gaps=(IdRange(settled_id + 1, 11),))
    with pytest.raises(Terminal) as refused:
        find_loss(plan, now, replace(FACTS, read=5, settled_id=settled_id))
    assert str(refused.value) == (
        f"settle: stream s: {why}: they may still be in it; nothing was recorded as lost, and nothing was trimmed; let"
        " the next drain read them: spillway stream recover s"
    )


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(0, 20), st.sets(st.integers(1, 20)))
def test_the_ids_of_a_loss_hold_all_lost_entries(read: list[bool], trimmed: int, deleted: set[int]) -> None:
    """Whatever is trimmed and deleted before it is read: `read[n]` says whether the entry n + 1 was read in time."""
    last = len(read)
    kept = [n for n in range(1, last + 1) if n > trimmed and n not in deleted]
    lost = [n for n in range(1, last + 1) if n not in kept and not read[n - 1]]
    tail = Tail(last, last, last, 1)
    plan = DrainPlan("s", tail, last, (IdRange(0, last + 1),), last, True, "g")
    by_xdel = [n for n in deleted if trimmed < n <= last]
    now = replace(tail, length=len(kept), first=kept[0] if kept else 0, max_deleted=max(by_xdel, default=0))
    facts = LedgerFacts(0, last - len(lost), 0, -1, last + 1, last + 1)
    found = find_loss(plan, now, facts)
    assert found is not None
    assert found.count == len(lost)
    if lost:
        assert found.ids == explain_loss(plan, now, facts, len(lost))
        assert found.ids is not None
        assert all(found.ids.start <= n < found.ids.stop for n in lost)
        assert found.ids.stop <= last + 1
