"""Rows that retention dropped are distinguished from missing rows, by the times of row, load, drop and chunk."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.maintain.dropped_rows import UNKNOWN, Drop, Retention

ANY_TIME = 2**63 - 1
# Chunks are of 100: 0 to 99, 100 to 199 …; the drop was at 1,000.
COUNTED = Drop(100, 200, at=1_000, counted=True)
POLICY = Drop(UNKNOWN, 250, at=1_000, counted=False)
RUNNING = Drop(UNKNOWN, 250, at=ANY_TIME, counted=False)
ANEW = (100, 200, 1_500)  # the chunk that a late row made after the drop
ASTRIDE = (200, 300, 10)  # the one that the policy's horizon cuts: it was never dropped


@pytest.mark.parametrize(
    ("drop", "chunks", "time", "loaded", "took"),
    [
        (COUNTED, [], 150, 500, True),
        (COUNTED, [], 100, 1_000, True),
        (COUNTED, [], 199, UNKNOWN, True),
        (COUNTED, [], 150, 1_001, False),  # loaded after the drop
        (COUNTED, [], 99, 500, False),  # of another chunk
        (COUNTED, [], 200, 500, False),
        (COUNTED, [ANEW], 150, 500, True),  # that there is a chunk again proves nothing of what was in the old one
        (COUNTED, [ANEW], 150, 1_600, False),
        (COUNTED, [ANEW], 150, UNKNOWN, True),  # a merged range: not known
        (POLICY, [], 150, 500, True),
        (POLICY, [], -(10**9), 500, True),
        (POLICY, [], 150, 1_001, False),
        (POLICY, [], 250, 500, False),
        (POLICY, [ASTRIDE], 240, 500, False),  # by whole chunks, and this one is there
        (POLICY, [ASTRIDE], 240, UNKNOWN, False),
        (POLICY, [ASTRIDE], 199, 500, True),
        (POLICY, [(0, 1, 1), ASTRIDE], 150, 500, True),  # between two chunks
        (RUNNING, [], 150, 10**6, True),  # it may have come since
        (RUNNING, [ANEW], 150, 1_400, True),
        (RUNNING, [ANEW], 150, 1_501, False),
        (RUNNING, [ASTRIDE], 240, 500, False),
    ],
)
def test_a_row_counts_as_dropped_only_if_the_drop_can_have_taken_it(
    drop: Drop, chunks: list[tuple[int, int, int]], time: int, loaded: int, took: bool
) -> None:
    found = Retention((drop,), tuple(chunks)).took(np.array([time]), np.array([loaded]))
    assert found.tolist() == [took]


def test_one_of_several_drops_is_enough_and_without_drops_no_row_counts_as_dropped() -> None:
    times, loaded = np.array([50, 150, 350]), np.array([10, 10, 10])
    both = Retention((COUNTED, Drop(0, 100, 900, counted=True)), ())
    assert both.took(times, loaded).tolist() == [True, True, False]
    assert Retention((), (ANEW,)).took(times, loaded).tolist() == [False] * 3
