"""What a plan decides without a server: whether a stream is new, is the one that was drained, and is drained whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infra.errors.exceptions import Terminal
from tasks.ledger.plan import DrainPlan, is_new, why_different
from tasks.streams.continuity import Checkpoint
from tasks.streams.tail import Tail

TAIL = Tail(last=10, added=10, length=7, first=4)
PLAN = DrainPlan("s", TAIL, upto=10, gaps=(), lag=0, fresh=True, group="g")
UNREAD = Checkpoint(furthest=-1, passed=0, table="public.old")
READ = replace(UNREAD, furthest=10, passed=10)


@pytest.mark.parametrize(("upto", "whole"), [(9, False), (10, True), (1 << 64, False)])
def test_a_plan_is_whole_if_it_reaches_exactly_the_tail(upto: int, whole: bool) -> None:
    long = replace(TAIL, last=int("1" * 20))  # an id of today, not a small number
    assert replace(PLAN, upto=upto).whole == whole
    assert replace(PLAN, tail=long, upto=int("1" * 20)).whole


@pytest.mark.parametrize(
    ("checkpoint", "table", "new"),
    [
        (None, None, True),
        (None, "public.old", True),
        (UNREAD, None, False),
        (UNREAD, "public.old", False),
        (UNREAD, "public.other", True),
        (replace(UNREAD, table=None), "public.other", False),
        (READ, None, False),
        (READ, "public.old", False),
        (replace(READ, table=None), "public.other", False),
    ],
)
def test_a_stream_is_new_if_it_is_unknown_or_unread_and_of_another_table(
    checkpoint: Checkpoint | None, table: str | None, new: bool
) -> None:
    assert is_new("s", checkpoint, table) == new


@pytest.mark.parametrize("furthest", [0, 10])
def test_a_stream_that_was_drained_into_another_table_is_refused(furthest: int) -> None:
    with pytest.raises(Terminal, match=r"^plan: s: expected the table public\.old, .*, found public\.other; nothing"):
        is_new("s", replace(READ, furthest=furthest), "public.other")


def test_a_stream_that_is_away_is_expected_with_at_least_its_last_drained_id() -> None:
    away = "there is no such stream at the moment, expected one whose last id is {} or later"
    assert why_different(None, None, None) == away.format("0-0")
    assert why_different(None, UNREAD, None) == away.format("0-0")
    assert why_different(None, replace(READ, furthest=1), None) == away.format("0-1")
    assert why_different(None, READ, None) == away.format("0-10")


def test_a_stream_is_compared_with_what_the_ledger_knows_of_it() -> None:
    assert why_different(TAIL, None, None) is None
    assert why_different(TAIL, READ, None) is None
    settled = replace(READ, settled_id=10, settled_added=10, settled_hash=b"then")
    assert why_different(TAIL, settled, b"then") is None
    assert why_different(TAIL, settled, b"now") == "its entry 0-10 differs from the one that was drained"
