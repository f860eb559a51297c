"""What an audit concludes from its facts, without a server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tasks.maintain.drops import DropRecords
from tasks.maintain.row_audit import AuditFacts, RowAudit, judge_rows
from tasks.table.chunks import Chunk

WEEK = timedelta(days=7)
START = datetime(2026, 1, 1, tzinfo=UTC)
STARTS = tuple(START + n * WEEK for n in range(3))
CHUNKS = tuple(Chunk("s", f"c{n}", start, start + WEEK) for n, start in enumerate(STARTS))
NO_DROPS = DropRecords((), None)
# Three chunks of 100 rows; each ledger range lies in one of them.
ALL_THERE = AuditFacts(
    earliest=None,
    times=STARTS,
    inserted={1: 100, 2: 100, 3: 100},
    chunks=CHUNKS[::-1],
    counted=dict.fromkeys(CHUNKS, 100),
    rows_after_cut=None,
    drops=NO_DROPS,
    uncounted_until=None,
)


def with_rows(*rows: int) -> AuditFacts:
    return replace(ALL_THERE, counted=dict(zip(CHUNKS, rows, strict=False)))


def test_if_nothing_is_missing_the_comparison_of_all_events_is_the_result() -> None:
    assert judge_rows(ALL_THERE) == RowAudit(None, 300, 300, 0, checked=True)


def test_the_latest_time_from_which_as_much_is_missing_is_reported() -> None:
    assert judge_rows(with_rows(100, 97, 100)) == RowAudit(STARTS[1], 200, 197, 0, checked=True)
    assert judge_rows(with_rows(97, 100, 100)) == RowAudit(STARTS[0], 300, 297, 0, checked=True)


def test_surplus_rows_of_an_early_chunk_hide_no_loss_in_a_later_one() -> None:
    found = judge_rows(with_rows(190, 100, 60))
    assert (found.missing, found.since) == (40, STARTS[2])


def test_a_counted_drop_explains_its_rows_and_no_more() -> None:
    dropped = replace(
        ALL_THERE,
        chunks=CHUNKS[:0:-1],
        counted={CHUNKS[1]: 100, CHUNKS[2]: 100},
        drops=DropRecords(((STARTS[1], 100),), None),
    )
    assert judge_rows(dropped) == RowAudit(None, 300, 200, 100, checked=True)
    fewer = replace(dropped, drops=DropRecords(((STARTS[1], 95),), None))
    assert judge_rows(fewer).missing == 5


def test_times_that_an_uncounted_drop_may_have_reached_are_not_compared() -> None:
    """The chunk that the reach cuts is dropped as a whole or not at all, so it is compared from its start on."""
    reach = replace(with_rows(0, 100, 100), uncounted_until=STARTS[1] + timedelta(days=1))
    assert judge_rows(reach) == RowAudit(STARTS[1], 200, 200, 0, checked=True)
    assert judge_rows(replace(reach, counted={CHUNKS[1]: 99, CHUNKS[2]: 100})).missing == 1


def test_the_chunk_that_the_horizon_cuts_counts_from_the_horizon_on() -> None:
    horizon = STARTS[0] + timedelta(days=3)
    facts = replace(
        ALL_THERE,
        earliest=horizon,
        times=(STARTS[0], horizon, *STARTS[1:]),
        inserted={1: 40, 2: 60, 3: 100, 4: 100},
        counted={CHUNKS[0]: 100 - 7, CHUNKS[1]: 100, CHUNKS[2]: 100},
    )
    assert judge_rows(replace(facts, rows_after_cut=53)) == RowAudit(horizon, 260, 253, 0, checked=True)
    assert judge_rows(replace(facts, rows_after_cut=60)) == RowAudit(STARTS[0], 300, 293, 0, checked=True)
    assert judge_rows(replace(facts, rows_after_cut=None)) == RowAudit(STARTS[0], 300, 293, 0, checked=True)


def test_only_times_after_which_every_chunk_was_counted_are_compared() -> None:
    newest = replace(ALL_THERE, counted={CHUNKS[2]: 98})
    assert judge_rows(newest) == RowAudit(STARTS[2], 100, 98, 0, checked=True)
    assert judge_rows(replace(ALL_THERE, counted={}, earliest=STARTS[0])) == RowAudit(STARTS[0], checked=False)


def test_a_table_without_chunks_lacks_what_the_ledger_has() -> None:
    empty = replace(ALL_THERE, times=(), inserted={0: 7}, chunks=(), counted={})
    assert judge_rows(empty) == RowAudit(None, 7, 0, 0, checked=True)
    assert judge_rows(empty).missing == 7


def comparison(facts: AuditFacts, position: int, since: datetime | None) -> RowAudit | None:
    """One comparison by its definition, chunk by chunk; None if it cannot be made."""
    whole = [one for one in facts.chunks if since is None or one.range_start >= since]
    cut = [one for one in facts.chunks if since is not None and one.range_start < since < one.range_end]
    if any(one not in facts.counted for one in whole):
        return None
    if cut and (since != facts.earliest or facts.rows_after_cut is None):
        return None
    rows = sum(facts.counted[one] for one in whole) + (facts.rows_after_cut or 0) * bool(cut)
    inserted = sum(rows for number, rows in facts.inserted.items() if number >= position)
    dropped = sum(rows for end, rows in facts.drops.counted if since is None or end > since)
    return RowAudit(since, inserted, rows, dropped, checked=True)


@st.composite
def audit_facts(draw: st.DrawFn) -> AuditFacts:
    """Chunks of any lengths, which may overlap, some of them not counted; any ranges of the ledger and any drops."""
    days = st.integers(0, 30).map(lambda n: START + timedelta(days=n))
    few = st.integers(0, 9)
    starts = draw(st.lists(days, max_size=6))
    chunks = [
        Chunk("s", f"c{n}", start, start + timedelta(days=draw(st.integers(1, 9)))) for n, start in enumerate(starts)
    ]
    earliest = draw(st.none() | days)
    later = {one.range_start for one in chunks if earliest is None or one.range_end > earliest}
    times = tuple(sorted(later | ({earliest} if earliest else set())))
    return AuditFacts(
        earliest=earliest,
        times=times,
        inserted=draw(st.dictionaries(st.integers(0, len(times)), few)),
        chunks=tuple(reversed(chunks)),
        counted={one: draw(few) for one in chunks if draw(few)},
        rows_after_cut=draw(st.none() | few),
        drops=DropRecords(tuple(draw(st.lists(st.tuples(days, few), max_size=4))), None),
        uncounted_until=None,
    )


@given(audit_facts())
def test_the_result_is_that_of_comparing_every_time_with_every_chunk(facts: AuditFacts) -> None:
    all_times = [comparison(facts, position, since) for position, since in enumerate([None, *facts.times])]
    made = [one for one in all_times if one is not None]
    found = judge_rows(facts)
    if not made:
        assert found == RowAudit(facts.earliest, checked=False)
        return
    assert found in made
    assert found.missing == max(one.missing for one in made)
    equal = [one for one in made if one.missing == found.missing]
    assert found == (equal[-1] if found.missing else equal[0])
