"""Whether a stream is still the one that was drained, as a question about numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.streams.continuity import Checkpoint, why_rewound
from tasks.streams.tail import Tail

# A life of a stream: entries are added (True), trimmed from the front, or deleted (its place among those left).
Life = st.lists(st.one_of(st.just("add"), st.integers(0, 4), st.just("trim")), max_size=40)


def live(actions: list[str | int], start: tuple[list[int], int, int]) -> tuple[list[int], int, int]:
    """Entries left, entries ever added and the greatest deleted id after `actions`; ids are 1, 2, 3 …"""
    left, added, max_deleted = list(start[0]), start[1], start[2]
    for action in actions:
        if action == "add":
            added += 1
            left.append(added)
        elif action == "trim":
            left = left[1:]
        elif isinstance(action, int) and left:
            max_deleted = max(max_deleted, left.pop(action % len(left)))
    return left, added, max_deleted


@given(Life, Life)
def test_whatever_is_added_trimmed_and_deleted_the_stream_stays_the_same(
    before: list[str | int], after: list[str | int]
) -> None:
    settled = live(["add", *before], ([], 0, 0))
    last = settled[1]
    memory = Checkpoint(last, settled[1], last, settled[1], b"hash" if last in settled[0] else None)
    left, added, max_deleted = live(after, settled)
    tail = Tail(added, added, len(left), left[0] if left else 0, max_deleted)
    assert why_rewound(tail, memory, b"hash" if last in left else None) is None


def test_a_stream_of_which_nothing_was_settled_yet_is_judged_by_what_was_drained() -> None:
    memory = Checkpoint(furthest=10, passed=10)
    assert why_rewound(Tail(10, 10, 10, 1), memory, None) is None
    assert "last id" in (why_rewound(Tail(9, 12, 10, 1), memory, None) or "")
    assert "ever added" in (why_rewound(Tail(12, 9, 10, 1), memory, None) or "")
