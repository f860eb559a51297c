"""Pages of a stream: none is so large that its columns could not hold it, and none skips an entry."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

import tasks.streams.pages
from infra.connections.clients import redis_client as connect
from infra.settings import Settings
from tasks.base.addresses import IdRange
from tasks.columns.decode import TimeWindow
from tasks.streams.reader import BatchLimits, Reader
from tasks.streams.tail import read_tail
from tests.support.stream_entries import event

ALL = IdRange(0, 1 << 127)
ALWAYS = TimeWindow(-(2**62), 2**62)


@pytest.mark.parametrize("largest_page", [1, 50_000, 300_000])
def test_a_page_of_documents_that_are_suddenly_large_is_asked_for_again_with_fewer(
    largest_page: int, redis_client: redis.Redis, stream: str, configure: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(tasks.streams.pages, "_MAX_PAGE_BYTES", largest_page)
    sizes = [10] * 300 + [100_000] * 20 + [10] * 300
    for n, size in enumerate(sizes):
        redis_client.xadd(stream, event(n, user_id="x" * size), id=f"{n + 1}-0")  # type: ignore[arg-type]
    with connect(configure()) as client:
        reader = Reader(client, stream, [ALL], read_tail(client, stream), BatchLimits(250, 1 << 20), None, ALWAYS)
        batches = list(iter(reader.read, None))
    ids = [batch.raw(i)[0] for batch in batches for i in range(batch.read)]
    assert ids == [f"{n + 1}-0" for n in range(len(sizes))]
    assert [batch.ids.start for batch in batches[1:]] == [batch.ids.stop for batch in batches[:-1]]
    assert (batches[0].ids.start, batches[-1].ids.stop) == (ALL.start, ALL.stop)
