"""Recorded losses are grouped with the ledger rows that they overlap, and no row is used twice."""

from __future__ import annotations

from tasks.base.addresses import IdRange
from tasks.reconcile.recover import LedgerRow, split_ledger


def row(start: int, stop: int, lost: IdRange | None = None) -> LedgerRow:
    return LedgerRow(IdRange(start, stop), 1, 5, 3 if lost else 0, lost)


FIRST = row(0, 10)
LOSS = row(10, 20, IdRange(8, 25))
OVERLAPPED = row(20, 30)
SECOND_LOSS = row(30, 40, IdRange(28, 35))
LAST = row(40, 50)
LEDGER = [FIRST, LOSS, OVERLAPPED, SECOND_LOSS, LAST]


def test_a_loss_comes_with_the_rows_that_it_overlaps_and_a_row_comes_once() -> None:
    losses, later = split_ledger(LEDGER, settled=25, ids=None)
    assert losses == [(LOSS, [FIRST, LOSS, OVERLAPPED]), (SECOND_LOSS, [SECOND_LOSS])]
    assert later == [LAST]


def test_only_losses_within_the_given_ids_are_used() -> None:
    losses, later = split_ledger(LEDGER, settled=100, ids=IdRange(30, 31))
    assert losses == [(SECOND_LOSS, [OVERLAPPED, SECOND_LOSS])]
    assert later == []
    assert split_ledger(LEDGER, settled=100, ids=IdRange(90, 99)) == ([], [])


def test_rows_after_the_last_settlement_come_without_a_loss() -> None:
    assert split_ledger([FIRST, OVERLAPPED, LAST], settled=-1, ids=None) == ([], [FIRST, OVERLAPPED, LAST])
