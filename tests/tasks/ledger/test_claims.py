"""Parts of streams, as pure functions, and claims of two runs on a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.connections.clients import Clients
from infra.settings import Settings
from tasks.base.addresses import IdRange
from tasks.ledger.claims import Claim, Claims, parts_of
from tasks.ledger.plan import DrainPlan
from tasks.streams.tail import Tail
from tests.support.waiting import wait_until

ROWS = 20_000
A, B = Claim((), "a"), Claim((), "b")


def plan_of(gaps: list[IdRange], lag: int, first: int) -> DrainPlan:
    upto = gaps[-1].stop - 1
    tail = Tail(last=upto, added=lag, length=lag, first=first, max_deleted=0, groups=0, last_hash=b"")
    return DrainPlan("s", tail, upto, tuple(gaps), lag, False, "g")


@st.composite
def plans(draw: st.DrawFn) -> DrainPlan:
    scale = draw(st.sampled_from([1, 1 << 40, 1 << 64]))
    numbers = draw(st.lists(st.integers(1, 10**9), min_size=2, max_size=12, unique=True).map(sorted))
    borders = [number * scale for number in numbers[: len(numbers) // 2 * 2]]
    gaps = [IdRange(start, stop) for start, stop in zip(borders[::2], borders[1::2], strict=True)]
    return plan_of(gaps, draw(st.integers(0, 10**8)), draw(st.integers(0, gaps[0].stop)))


@given(plans())
def test_parts_are_the_gaps_in_order_and_their_keys_differ(plan: DrainPlan) -> None:
    parts = parts_of(plan, ROWS)
    ids: list[tuple[int, int]] = []
    for gap in (gap for part in parts for gap in part.gaps):
        if ids and ids[-1][1] == gap.start:
            ids[-1] = (ids[-1][0], gap.stop)
        else:
            ids.append((gap.start, gap.stop))
    assert ids == [(gap.start, gap.stop) for gap in plan.gaps]
    assert len({part.key for part in parts}) == len(parts) <= 2 * 128 + 2 + len(plan.gaps)


def test_a_large_stream_has_parts_of_about_four_batches() -> None:
    first, entries = 1_700_000_000_000 << 64, 64 * ROWS
    last = first + entries * (1 << 64)  # an entry each millisecond
    parts = parts_of(plan_of([IdRange(0, last + 1)], entries, first), ROWS)
    sizes = [sum(min(gap.stop, last) - max(gap.start, first) for gap in part.gaps) >> 64 for part in parts]
    assert sum(sizes) in (entries, entries - 1) or abs(sum(sizes) - entries) <= len(sizes)
    assert all(size <= 4 * ROWS for size in sizes)
    assert sum(size >= 2 * ROWS for size in sizes) >= len(sizes) - 2


def test_runs_that_plan_at_different_times_have_parts_in_common() -> None:
    first = 1_700_000_000_000 << 64
    ends = [first + (entries << 64) for entries in (64 * ROWS, 65 * ROWS)]
    keys = [
        {part.key for part in parts_of(plan_of([IdRange(first, end)], (end - first) >> 64, first), ROWS)}
        for end in ends
    ]
    assert len(keys[0] & keys[1]) >= len(keys[0]) - 1


def test_a_small_stream_and_one_of_limited_entries_are_one_part() -> None:
    gaps = [IdRange(1, 1 << 80)]
    assert len(parts_of(plan_of(gaps, 8 * ROWS, 1), ROWS)) == 1
    assert len(parts_of(plan_of(gaps, 80 * ROWS, 1), None)) == 1
    assert parts_of(DrainPlan("s", plan_of(gaps, 0, 1).tail, 0, (), 0, False, "g"), ROWS) == []


@pytest.fixture
def two(configure: Callable[..., Settings], database: psycopg.Connection) -> Iterator[tuple[Claims, Claims]]:
    del database  # it has started the server
    settings = configure()
    with Clients(settings) as left, Clients(settings) as right:
        claims = Claims(left), Claims(right)
        yield claims
        for one in claims:
            one.close()


def test_what_one_run_holds_no_other_takes(two: tuple[Claims, Claims]) -> None:
    left, right = two
    assert left.take(A)
    assert left.take(A)
    assert left.take(B)
    assert not right.take(A)
    assert not right.take(B)
    left.release(A)
    left.take(B)  # its transaction has ended by now, and holds b again
    left.keep()
    assert not right.take(B)
    left.take(Claim((), "c"))
    assert right.take(A)
    assert not left.take(A)
    left.close()
    assert right.take(B)


def test_claims_end_with_the_session(two: tuple[Claims, Claims], database: psycopg.Connection) -> None:
    left, right = two
    assert left.take(A)
    assert not right.take(A)
    held = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
    database.execute(held)
    wait_until(lambda: right.take(A))
    assert left.take(B)  # with a new session, in which it no longer holds the first one
    assert not right.take(B)


def test_without_a_connection_everything_is_free(configure: Callable[..., Settings]) -> None:
    away = configure(database_url="postgresql://x:y@127.0.0.1:1/z")
    with Clients(away) as clients:
        assert Claims(clients).take(A)
