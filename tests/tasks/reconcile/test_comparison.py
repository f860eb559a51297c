"""What a comparison concludes from its facts: suspects, records in the quarantine, drops and refused repairs."""

from __future__ import annotations

from tasks.reconcile.comparison import (
    Comparison,
    ComparisonTotals,
    Discrepancy,
    Suspect,
    judge,
    missing_rows,
    suspect_row,
    unexplained,
    with_repeats,
)

MISSING = Suspect("missing", "no row has its key", row=3, time_us=7)
DOUBLED = Suspect("doubled", "2 rows have its key", row=4, time_us=7)
UNREADABLE = Suspect("unreadable", "time: not a time")
IDS = {entry: entry << 64 for entry in range(40)}


def test_a_row_is_missing_different_or_doubled() -> None:
    assert suspect_row(3, 7, 0, None) == MISSING
    assert suspect_row(3, 7, 0, "user_id").kind == "missing"
    assert suspect_row(3, 7, 1, "user_id") == Suspect("different", "its row has another user_id", 3, 7)
    assert suspect_row(3, 7, 2, "user_id").kind == "different"
    assert suspect_row(4, 7, 2, None) == DOUBLED


def test_a_repeat_shares_the_fate_of_the_entry_that_it_repeats() -> None:
    assert with_repeats({1: MISSING}, [(1, 5), (2, 6)]) == {1: MISSING, 5: MISSING}


def test_an_entry_on_record_is_explained_unless_its_row_is_doubled() -> None:
    suspects = {1: MISSING, 2: DOUBLED, 3: UNREADABLE, 4: MISSING}
    assert unexplained(suspects, {1, 2, 3}) == {2: DOUBLED, 4: MISSING}


def test_a_row_that_several_entries_lack_is_put_back_once() -> None:
    other = Suspect("missing", "", row=1, time_us=0)
    assert missing_rows({1: MISSING, 5: MISSING, 2: DOUBLED, 3: UNREADABLE, 9: other}) == [1, 3]


def test_without_repair_everything_is_a_discrepancy() -> None:
    found = judge(10, 2, {1: MISSING, 3: UNREADABLE}, IDS, refused=None)
    assert found == Comparison(
        compared=10,
        repaired=0,
        dropped=2,
        discrepancies=(
            Discrepancy("missing", 1 << 64, "no row has its key"),
            Discrepancy("unreadable", 3 << 64, "time: not a time"),
        ),
    )
    assert found.counts == {"missing": 1, "unreadable": 1}


def test_a_repair_counts_what_was_put_back_and_says_why_a_row_was_refused() -> None:
    put_back = judge(10, 0, {1: MISSING, 5: MISSING, 2: DOUBLED}, IDS, refused={})
    assert (put_back.repaired, put_back.counts) == (2, {"doubled": 1})
    refused = judge(10, 0, {1: MISSING}, IDS, refused={3: "a trigger on events skips its row"})
    assert refused.repaired == 0
    assert refused.discrepancies == (Discrepancy("missing", 1 << 64, "a trigger on events skips its row"),)


def batch(*entries: int) -> Comparison:
    return Comparison(100, 3, 2, tuple(Discrepancy("missing", IDS[entry], f"of {entry}") for entry in entries))


def test_totals_add_up_and_leave_the_earlier_ones_alone() -> None:
    none = ComparisonTotals()
    first = none.plus(batch(9, 2))
    both = first.plus(batch(5))
    assert (both.compared, both.repaired, both.dropped, both.counts) == (200, 6, 4, {"missing": 3})
    assert (none, first.counts) == (ComparisonTotals(), {"missing": 2})
    (finding,) = both.findings("s", "events")
    assert (finding.what, finding.count, finding.ids, finding.detail) == ("missing", 3, "2-0, 5-0, 9-0", "of 2")
    assert finding.repair == "spillway reconcile --stream s --deep --since 2-0 --until 9-0 --repair"


def test_a_finding_names_twenty_entries_and_repairs_the_whole_stream_if_there_are_more() -> None:
    (finding,) = ComparisonTotals().plus(batch(*range(25))).findings("s", "events")
    assert (finding.count, finding.ids.count("-0"), finding.ids.endswith("19-0 …")) == (25, 20, True)
    assert finding.repair == "spillway reconcile --stream s --deep --repair"
