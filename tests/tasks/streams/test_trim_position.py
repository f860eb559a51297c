"""The first id that a trim must keep."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tasks.streams.trim import GroupPosition, first_to_keep

HOUR_MS = 3_600_000


def test_a_group_needs_what_it_has_not_read_or_not_acknowledged() -> None:
    assert GroupPosition(10, None).needs_from == 11
    assert GroupPosition(11, None).needs_from == 12
    assert GroupPosition(11, 20).needs_from == 12
    assert GroupPosition(10, 4).needs_from == 4
    assert GroupPosition(10, 12).needs_from == 11
    assert GroupPosition(0, None).needs_from == 1


def test_nothing_after_the_watermark_is_trimmed() -> None:
    assert first_to_keep(5, [], 10 * HOUR_MS, timedelta(0)) == 5
    assert first_to_keep(5, [GroupPosition(99, None)], 10 * HOUR_MS, timedelta(0)) == 5


def test_nothing_that_another_group_needs_is_trimmed() -> None:
    groups = [GroupPosition(30, None), GroupPosition(20, 7), GroupPosition(50, None)]
    assert first_to_keep(100, groups, 10 * HOUR_MS, timedelta(0)) == 7


def test_nothing_younger_than_trim_keep_is_trimmed() -> None:
    watermark = 10 * HOUR_MS << 64
    assert first_to_keep(watermark, [], 10 * HOUR_MS, timedelta(hours=3)) == 7 * HOUR_MS << 64
    assert first_to_keep(watermark, [], 10 * HOUR_MS, timedelta(milliseconds=1.6)) == (10 * HOUR_MS - 2) << 64
    assert first_to_keep(watermark, [], 10 * HOUR_MS, timedelta(0)) == watermark


def test_nothing_is_trimmed_if_the_clock_is_earlier_than_trim_keep() -> None:
    assert first_to_keep(5 << 64, [], HOUR_MS, timedelta(hours=2)) == 0


@given(
    st.integers(0, 1 << 90),
    st.lists(st.builds(GroupPosition, st.integers(0, 1 << 90), st.none() | st.integers(0, 1 << 90)), max_size=4),
    st.integers(0, 1 << 40),
    st.timedeltas(timedelta(0), timedelta(days=400)),
)
def test_the_first_id_to_keep_respects_every_limit(
    watermark: int, groups: list[GroupPosition], now_ms: int, keep: timedelta
) -> None:
    first = first_to_keep(watermark, groups, now_ms, keep)
    assert 0 <= first <= watermark
    assert all(first <= group.delivered + 1 for group in groups)
    assert all(first <= group.pending for group in groups if group.pending is not None)
    assert first <= max(0, now_ms - keep / timedelta(milliseconds=1) + 1) * 2**64
