"""Each stream belongs to one part, which stays the same on every machine and in every release."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors.exceptions import WrongUse
from tasks.streams.shard import Shard, parse_shard


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 100))
def test_a_stream_is_in_exactly_one_part(stream: str, count: int) -> None:
    assert sum(stream in Shard(number, count) for number in range(1, count + 1)) == 1


def test_the_part_of_a_name_never_changes() -> None:
    """Otherwise two workers of different releases would both take a stream, or neither. The parts are sha256sum's."""
    names = ["events", "events:1", "events:2", "readings", "ä", "\udcff"]
    assert [next(n for n in range(1, 9) if name in Shard(n, 8)) for name in names] == [4, 4, 3, 3, 5, 1]


def test_many_streams_are_spread_evenly() -> None:
    parts = [sum(f"events:{n}" in Shard(number, 4) for n in range(10_000)) for number in range(1, 5)]
    assert all(2_300 < part < 2_700 for part in parts), parts


@pytest.mark.parametrize("text", ["1/1", " 2/8 ", "8/8"])
def test_a_shard_is_read(text: str) -> None:
    number, count = map(int, text.split("/"))
    assert parse_shard(text) == Shard(number, count)


@pytest.mark.parametrize("text", ["0/8", "9/8", "1", "/", "a/b", "1/0", "-1/2", "1/2/3", "1 / 2", "٢/٨"])
def test_a_text_that_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(WrongUse, match=r"expected a part and the number of parts, such as 2/8, .* nothing was read"):
        parse_shard(text)
