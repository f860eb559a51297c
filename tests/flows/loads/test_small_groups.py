"""Which streams are drained together, as a pure function."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flows.loads.drained_stream import DrainedStream
from flows.loads.small_loads import small_groups
from tasks.columns.row_layout import RowLayout
from tests.support.events_layouts import ANY, JSON

LAYOUTS = (ANY, JSON)


@given(st.lists(st.tuples(st.integers(-1, 1_200), st.sampled_from(LAYOUTS)), max_size=400))
def test_every_small_stream_is_in_one_group_of_its_layout(found: list[tuple[int, RowLayout]]) -> None:
    streams = [DrainedStream(f"s{at}", layout) for at, (_, layout) in enumerate(found)]
    waiting = {f"s{at}": entries for at, (entries, _) in enumerate(found) if entries >= 0}
    groups = small_groups(streams, waiting)
    grouped = [name for group in groups for name in group.names]
    assert len(set(grouped)) == len(grouped)
    small = {one.name for one in streams if 0 < waiting.get(one.name, 0) <= 1_000}
    assert set(grouped) <= small
    assert len(small) - len(grouped) <= len(LAYOUTS) * (len(groups) + 1)
    layout_of = {one.name: one.layout for one in streams}
    for group in groups:
        assert 2 <= len(group.names) <= 100
        assert sum(waiting[name] for name in group.names) <= 50_000
        assert all(layout_of[name] is group.layout for name in group.names)
