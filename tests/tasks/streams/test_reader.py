"""No page of a stream is too large for an Arrow column, and none skips an entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from infra.connections.clients import redis_client as connect
from infra.settings import Settings
from tasks.base.addresses import IdRange
from tasks.columns.batch import BatchLimits
from tasks.columns.decode import TimeWindow
from tasks.streams.pages import PAGE_LIMITS
from tasks.streams.reader import Reader, next_page
from tasks.streams.tail import read_tail
from tests.support.events_layouts import ANY
from tests.support.stream_entries import event

ALL = IdRange(0, 1 << 127)
ALWAYS = TimeWindow(-(2**62), 2**62)


@pytest.mark.parametrize("largest_page", [1, 50_000, 300_000])
def test_a_page_that_is_too_large_is_requested_again_with_fewer_entries_and_nothing_is_skipped(
    largest_page: int, redis_client: redis.Redis, stream: str, configure: Callable[..., Settings],
) -> None:  # fmt: skip
    limits = replace(PAGE_LIMITS, max_bytes=largest_page)
    sizes = [10] * 300 + [100_000] * 20 + [10] * 300
    for n, size in enumerate(sizes):
        redis_client.xadd(stream, event(n, user_id="x" * size), id=f"{n + 1}-0")  # type: ignore[arg-type]
    with connect(configure()) as client:
        tail = read_tail(client, stream)
        reader = Reader(client, stream, [ALL], tail, BatchLimits(250, 1 << 20), ANY, ALWAYS, page_limits=limits)
        batches = list(iter(reader.read, None))
    ids = [batch.raw(i)[0] for batch in batches for i in range(batch.read)]
    assert ids == [f"{n + 1}-0" for n in range(len(sizes))]
    assert [batch.ids.start for batch in batches[1:]] == [batch.ids.stop for batch in batches[:-1]]
    assert (batches[0].ids.start, batches[-1].ids.stop) == (ALL.start, ALL.stop)


@pytest.mark.parametrize(
    ("page", "entries", "nbytes", "expected"),
    [
        (10, 10, 100, 80),  # small entries: eight times as many
        (100, 100, 1_000, 800),
        (200, 200, 2_000, 1_000),  # never more than 1,000
        (250, 250, 250 * 256, 512),  # as many as fit into 128 KiB
        (250, 250, 250 * 1_024, 250),  # 250 anyway
        (250, 250, 250 * 4_096, 250),
        (250, 250, 2 << 20, 125),  # as many as fit into 1 MiB
        (250, 250, 250 << 20, 1),
        (250, 1, 5 << 20, 1),  # larger than a page: one by one
        (10, 3, 0, 80),  # entries without fields
    ],
)
def test_the_size_of_the_next_page_follows_the_size_of_the_last_entries(
    page: int, entries: int, nbytes: int, expected: int
) -> None:
    assert next_page(PAGE_LIMITS, page, entries, nbytes) == expected
