"""Adding, trimming and deleting never look like a rewind; whatever contradicts the same stream does, with a reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.streams.continuity import Checkpoint, rewind_message, why_not_continued, why_rewound
from tasks.streams.tail import Tail

# The life of a stream: entries are added, trimmed from the front, or deleted (a number selects which).
Life = st.lists(st.one_of(st.just("add"), st.integers(0, 4), st.just("trim")), max_size=40)


def live(actions: list[str | int], start: tuple[list[int], int, int]) -> tuple[list[int], int, int]:
    """Remaining entries, entries ever added and the greatest deleted id after `actions`; ids are 1, 2, 3 …"""
    remaining, added, max_deleted = list(start[0]), start[1], start[2]
    for action in actions:
        if action == "add":
            added += 1
            remaining.append(added)
        elif action == "trim":
            remaining = remaining[1:]
        elif isinstance(action, int) and remaining:
            max_deleted = max(max_deleted, remaining.pop(action % len(remaining)))
    return remaining, added, max_deleted


def tail_of(remaining: list[int], added: int, max_deleted: int) -> Tail:
    """The tail of a stream with these entries."""
    last_hash = b"hash" if added in remaining else None
    return Tail(added, added, len(remaining), remaining[0] if remaining else 0, max_deleted, last_hash)


@given(Life, Life)
def test_adding_trimming_and_deleting_never_look_like_a_rewind(before: list[str | int], after: list[str | int]) -> None:
    first = live(["add", *before], ([], 0, 0))
    settled = tail_of(*first)
    checkpoint = Checkpoint(settled.last, settled.added, settled.last, settled.added, settled.last_hash)
    second = live(after, first)
    hash_now = b"hash" if settled.last in second[0] else None
    assert why_rewound(tail_of(*second), checkpoint, hash_now) is None
    assert why_not_continued(settled, tail_of(*second), hash_now) is None


def test_before_the_first_settlement_the_drained_ids_and_counts_decide() -> None:
    checkpoint = Checkpoint(furthest=10, passed=10)
    assert why_rewound(Tail(10, 10, 10, 1), checkpoint, None) is None
    assert why_rewound(Tail(9, 12, 10, 1), checkpoint, None) == (
        "its last id is 0-9, expected 0-10 or later, which the ledger says was drained"
    )
    assert why_rewound(Tail(12, 9, 10, 1), checkpoint, None) == (
        "9 entries were ever added to it, expected 10 or more, which the ledger has accounted for"
    )


# Ten entries with the ids 1 to 10 were added, and all were drained and settled.
SETTLED = Checkpoint(furthest=10, passed=10, settled_id=10, settled_added=10, settled_hash=b"ten")
SETTLED_WITHOUT_ENTRY = Checkpoint(furthest=10, passed=10, settled_id=10, settled_added=10)


@pytest.mark.parametrize(
    ("tail", "hash_now", "reason"),
    [
        (Tail(9, 10, 9, 1), None, "its last id is 0-9, expected 0-10 or later, which the ledger says was drained"),
        (Tail(10, 10, 10, 1), b"other", "its entry 0-10 differs from the one that was drained"),
        (
            Tail(14, 13, 4, 11),
            None,
            "it holds 4 entries later than 0-10, expected at most 3, by entries-added",
        ),
        (
            Tail(12, 12, 11, 1, max_deleted=9),
            None,
            "its entry 0-10 was drained but no longer exists, although older ones do and it was not deleted",
        ),
    ],
)
def test_a_stream_that_contradicts_its_settled_tail_went_back(tail: Tail, hash_now: bytes | None, reason: str) -> None:
    assert why_rewound(tail, SETTLED, hash_now) == reason


@pytest.mark.parametrize(
    ("tail", "hash_now"),
    [
        (Tail(10, 10, 10, 1), b"ten"),  # unchanged
        (Tail(13, 13, 13, 1), b"ten"),  # three more entries
        (Tail(13, 13, 3, 11), None),  # all older ones were trimmed
        (Tail(13, 13, 0), None),  # all were trimmed
        (Tail(12, 12, 11, 1, max_deleted=10), None),  # the settled entry was deleted
        (Tail(12, 12, 10, 1, max_deleted=12), None),  # the settled entry and a later one were deleted
    ],
)
def test_a_stream_that_grew_or_was_trimmed_or_lost_entries_by_deletion_is_the_same(
    tail: Tail, hash_now: bytes | None
) -> None:
    assert why_rewound(tail, SETTLED, hash_now) is None


def test_a_settled_entry_that_was_already_gone_is_not_compared() -> None:
    assert why_rewound(Tail(10, 10, 9, 1), SETTLED_WITHOUT_ENTRY, None) is None
    assert why_rewound(Tail(10, 10, 9, 1), SETTLED_WITHOUT_ENTRY, b"other") is None
    assert why_rewound(Tail(13, 13, 4, 11), SETTLED_WITHOUT_ENTRY, None) == (
        "it holds 4 entries later than 0-10, expected at most 3, by entries-added"
    )


WHOLE = (b"\x01" * 32, b"\x02" * 32)
ABRIDGED = (b"\x01" * 33, b"\x02" * 33)


@pytest.mark.parametrize(
    ("then", "now", "differs"),
    [
        (WHOLE[0], bytes(bytearray(WHOLE[0])), False),
        (WHOLE[0], WHOLE[1], True),
        (WHOLE[1], WHOLE[0], True),
        (ABRIDGED[0], bytes(bytearray(ABRIDGED[0])), False),
        (ABRIDGED[0], ABRIDGED[1], True),
        (ABRIDGED[1], ABRIDGED[0], True),
        (WHOLE[0], ABRIDGED[1], False),
        (ABRIDGED[0], WHOLE[1], False),
        (WHOLE[1], ABRIDGED[0], False),
        (ABRIDGED[1], WHOLE[0], False),
    ],
)
def test_the_hash_of_an_abridged_entry_is_compared_with_others_of_abridged_entries_only(
    then: bytes, now: bytes, differs: bool
) -> None:
    reason = why_rewound(Tail(10, 10, 10, 1), replace(SETTLED, settled_hash=then), now)
    assert reason == ("its entry 0-10 differs from the one that was drained" if differs else None)


# Ten entries were added; 1 and 2 were trimmed, and 3 was deleted.
PLANNED = Tail(last=10, added=10, length=7, first=4, max_deleted=3, last_hash=b"ten")


@pytest.mark.parametrize(
    ("now", "hash_now", "reason"),
    [
        (
            Tail(9, 10, 6, 4, 3),
            None,
            "its last id is 0-9, expected 0-10 or later, which the ledger says was drained",
        ),
        (
            Tail(10, 9, 6, 4, 3),
            b"ten",
            "9 entries were ever added to it, expected 10 or more, which the ledger has accounted for",
        ),
        (Tail(10, 10, 7, 4, 3), b"other", "its entry 0-10 differs from the one that was drained"),
        (Tail(10, 10, 7, 3, 3), b"ten", "its first id is 0-3, expected 0-4"),
        (Tail(10, 10, 7, 4, 2), b"ten", "its max-deleted-entry-id is 0-2, expected 0-3"),
        (Tail(12, 12, 10, 4, 3), b"ten", "2 of its entries were trimmed or deleted, expected at least 3"),
    ],
)
def test_another_stream_in_the_same_run_is_not_the_one_that_was_planned(
    now: Tail, hash_now: bytes | None, reason: str
) -> None:
    assert why_not_continued(PLANNED, now, hash_now) == f"it is not the stream that was planned: {reason}"


def test_a_stream_that_is_away_is_not_the_one_that_was_planned() -> None:
    assert why_not_continued(PLANNED, None, None) == (
        "there is no such stream at the moment, expected one whose last id is 0-10 or later"
    )


@pytest.mark.parametrize(
    ("now", "hash_now"),
    [
        (PLANNED, b"ten"),  # unchanged
        (Tail(12, 12, 9, 4, 3), b"ten"),  # two more entries
        (Tail(12, 12, 7, 5, 6), b"ten"),  # 4 trimmed, 6 deleted
        (Tail(12, 12, 0, 0, 3), None),  # all trimmed: there is no first id
    ],
)
def test_a_stream_that_only_moved_on_is_the_one_that_was_planned(now: Tail, hash_now: bytes | None) -> None:
    assert why_not_continued(PLANNED, now, hash_now) is None


def test_the_message_about_a_stream_that_went_back_has_both_choices() -> None:
    assert rewind_message("orders", "its last id is 0-9, expected 0-10 or later") == (
        "plan: stream orders went back: its last id is 0-9, expected 0-10 or later; it was deleted and created again,"
        " restored from an older copy, or lost its newest entries in a failover; nothing was read; bring Redis back to"
        " the newer state, or drain its present content as a new stream: spillway stream accept-rewind orders (see «A"
        " stream went back» in docs/operations.md)"
    )
