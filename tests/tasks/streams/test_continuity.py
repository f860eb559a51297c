"""Adding, trimming and deleting never look like a rewind; a smaller last id or entries-added does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.streams.continuity import Checkpoint, why_rewound
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


@given(Life, Life)
def test_adding_trimming_and_deleting_never_look_like_a_rewind(before: list[str | int], after: list[str | int]) -> None:
    settled = live(["add", *before], ([], 0, 0))
    last = settled[1]
    checkpoint = Checkpoint(last, settled[1], last, settled[1], b"hash" if last in settled[0] else None)
    remaining, added, max_deleted = live(after, settled)
    tail = Tail(added, added, len(remaining), remaining[0] if remaining else 0, max_deleted)
    assert why_rewound(tail, checkpoint, b"hash" if last in remaining else None) is None


def test_before_the_first_settlement_the_drained_ids_and_counts_decide() -> None:
    checkpoint = Checkpoint(furthest=10, passed=10)
    assert why_rewound(Tail(10, 10, 10, 1), checkpoint, None) is None
    assert "last id" in (why_rewound(Tail(9, 12, 10, 1), checkpoint, None) or "")
    assert "ever added" in (why_rewound(Tail(12, 9, 10, 1), checkpoint, None) or "")
