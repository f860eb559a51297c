"""Messages about losses and redrives agree with their numbers."""

from __future__ import annotations

from tasks.ledger.drain_report import DrainResult
from tasks.reconcile.balance import LedgerTotals


def totals(**counts: int) -> LedgerTotals:
    zero = dict.fromkeys(("ranges", "read", "inserted", "duplicates", "quarantined", "waiting", "lost"), 0)
    return LedgerTotals("web", **zero | counts)


def test_one_lost_entry_is_not_several() -> None:
    assert (totals(lost=1).loss or "").startswith("1 entry of web is lost, gone from Redis before a drain;")
    assert (totals(lost=1_002, accepted=1).loss or "").startswith("1,001 entries of web are lost, gone from Redis")
    assert (totals(lost=1, accepted=1).acceptance or "").startswith("1 lost entry of web was accepted by")
    assert (totals(redriven=1).addition or "").startswith("1 row of web was added by redrives")
    assert (totals(redriven=2).addition or "").startswith("2 rows of web were added by redrives")
    one, two = (DrainResult("web", lost=number, lost_ids="1-0 to 2-0").loss or "" for number in (1, 2))
    assert one.startswith(
        "1 entry of web with ids in 1-0 to 2-0 was trimmed or deleted in Redis before it was drained; all other entries"
    )
    assert two.startswith("2 entries of web with ids in 1-0 to 2-0 were trimmed or deleted in Redis before they were ")
