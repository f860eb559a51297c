"""No reply of Redis is larger than its limit, whatever the sizes of entries, and no entry is skipped or changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from flows.cli.stream_status import stream_statuses
from infra.connections.clients import redis_client as connect
from tasks.base.addresses import IdRange
from tasks.columns.batch import BatchLimits
from tasks.columns.decode import TimeWindow
from tasks.mapping.read_sample import sample_stream
from tasks.metrics.ledger_figures import read_ledger_figures
from tasks.streams.continuity import Checkpoint, why_rewound
from tasks.streams.pages import PAGE_LIMITS, PageLimits
from tasks.streams.reader import Reader
from tasks.streams.tail import Tail, inspect_abridged, inspect_limited, read_tail
from tests.support.events_layouts import ANY
from tests.support.redis_server import redis_port, settings_of

MIB = 1 << 20
STREAM = "s"
LIMIT = ("--client-output-buffer-limit", "pubsub 1mb 1mb 60")
RIGHTS = ["+ping", "+info", "+client", "+multi", "+exec", "+type", "+xinfo", "+xrange"]


def fill(client: redis.Redis, sizes: list[int]) -> list[tuple[bytes, list[bytes]]]:
    """Entries whose value has these sizes, and is different in each."""
    found = []
    for number, size in enumerate(sizes, 1):
        value = (b"%08d" % number) * (size // 8)
        client.xadd(STREAM, {b"value": value}, id=f"{number}-0")
        found.append((b"%d-0" % number, [b"value", value]))
    return found


def read_entries(
    client: redis.Redis, tail: Tail, page_limits: PageLimits = PAGE_LIMITS
) -> list[tuple[bytes, list[bytes]]]:
    """The entries in their order, without the fields of those that were not read."""
    all_ids, always = [IdRange(0, tail.last + 1)], TimeWindow(-(2**62), 2**62)
    limits = BatchLimits(500, 8 * MIB)
    reader = Reader(client, STREAM, all_ids, tail, limits, ANY, always, page_limits=page_limits)
    found = []
    for batch in iter(reader.read, None):
        found += sorted((batch.raw(row) for row in range(batch.read)), key=lambda entry: int(entry[0].split("-")[0]))
    return [(entry.encode(), fields) for entry, fields in found]


def nbytes(reply: Any) -> int:
    if isinstance(reply, (list, tuple)):
        return sum(map(nbytes, reply))
    return len(reply) if isinstance(reply, bytes) else 8


class Replies:
    """The bytes of each reply that a client receives."""

    def __init__(self, client: redis.Redis) -> None:
        self.sizes: list[int] = []
        pool = client.connection_pool
        get_connection = pool.get_connection

        def counted(*args: Any, **kwargs: Any) -> Any:
            connection: Any = get_connection(*args, **kwargs)
            if "read_response" not in vars(connection):
                connection.read_response = self._counting(connection.read_response)
            return connection

        pool.get_connection = counted  # type: ignore[method-assign]

    def _counting(self, read_response: Callable[..., Any]) -> Callable[..., Any]:
        def read(*args: Any, **kwargs: Any) -> Any:
            reply = read_response(*args, **kwargs)
            self.sizes.append(nbytes(reply))
            return reply

        return read


@contextmanager
def server(folder: Path, *options: str) -> Iterator[redis.Redis]:
    with redis_port(folder, *options) as port, connect(settings_of(f"redis://127.0.0.1:{port}")) as client:
        yield client


@contextmanager
def user(admin: redis.Redis, *rights: str) -> Iterator[redis.Redis]:
    """A client of a user who has the rights to read, and these."""
    admin.execute_command("ACL", "SETUSER", "etl", "on", ">pw", "~*", *RIGHTS, *rights)
    port = admin.connection_pool.connection_kwargs["port"]
    with connect(settings_of(f"redis://etl:pw@127.0.0.1:{port}")) as client:
        yield client


def test_a_page_on_which_entries_become_large_is_never_built(tmp_path: Path) -> None:
    """On the first page that reaches the large entries, XRANGE would build 160 MB: its growth shows in Redis."""
    with server(tmp_path) as client:
        truth = fill(client, [40] * 3_000 + [4 * MIB] * 40)
        tail = read_tail(client, STREAM)
        before = client.info("memory")["used_memory"]
        client.config_resetstat()
        replies = Replies(client)
        assert read_entries(client, tail) == truth
        peak = client.info("memory")["used_memory_peak"]
        assert max(replies.sizes) <= 32 * MIB
        assert peak - before <= 64 * MIB


@pytest.mark.parametrize("sizes", [
    [3 * MIB] * 6,  # each alone is above the limit of a reply
    [40] * 700 + [3 * MIB] * 3 + [40] * 700,
    [600_000] * 12,
    [40, 3 * MIB] * 5,
])  # fmt: skip
def test_entries_above_the_limit_of_a_reply_are_read_one_by_one(sizes: list[int], tmp_path: Path) -> None:
    with server(tmp_path, *LIMIT) as client:
        truth = fill(client, sizes)
        replies = Replies(client)
        tail = read_tail(client, STREAM)
        assert read_entries(client, tail) == truth
        # Measured pages hold 16 MiB, unless it is one entry; the others, and every inspection, are limited by Redis.
        assert max(replies.sizes) <= 16 * MIB
        assert sum(replies.sizes) <= 4 * sum(sizes) + MIB


def test_a_reply_of_one_huge_entry_holds_this_entry_only(tmp_path: Path) -> None:
    """XINFO STREAM would send the first and the last entry with every proof."""
    huge = 36 * MIB
    with server(tmp_path) as client:
        truth = fill(client, [huge] * 3)
        replies = Replies(client)
        assert read_entries(client, read_tail(client, STREAM)) == truth
        assert max(replies.sizes) <= huge + 64 * 1024
        assert sum(replies.sizes) <= len(truth) * (huge + 128 * 1024)


@pytest.mark.parametrize("rights", [(), ("+eval_ro",), ("+subscribe", "+unsubscribe", "&spillway", "+eval_ro")])
@pytest.mark.parametrize("sizes", [
    [3 * MIB, 40, 3 * MIB],
    [40] * 700 + [3 * MIB] * 3 + [40] * 700,
    [40, 3 * MIB, 2 * MIB, 600_000] * 3,
])  # fmt: skip
def test_an_entry_above_its_own_limit_is_counted_but_not_read(
    sizes: list[int], rights: tuple[str, ...], tmp_path: Path
) -> None:
    """Without the rights it is read and thrown away, so that the outcome is the same."""
    with server(tmp_path, *LIMIT) as admin:
        truth = fill(admin, sizes)
        with user(admin, *rights) as client:
            replies = Replies(client)
            found = read_entries(client, read_tail(client, STREAM), replace(PAGE_LIMITS, max_entry=MIB))
        assert found == [(entry, fields if len(fields[1]) < MIB else []) for entry, fields in truth]
        if len(rights) > 1:
            assert max(replies.sizes) <= 2 * MIB


@pytest.mark.parametrize("rights", [
    (),
    ("+eval_ro",),
    ("+subscribe", "+unsubscribe", "&spillway"),
    ("+subscribe", "+unsubscribe", "&spillway", "+eval_ro"),
    ("+subscribe", "+unsubscribe"),  # no channel
])  # fmt: skip
def test_without_a_right_everything_is_read_all_the_same(rights: tuple[str, ...], tmp_path: Path) -> None:
    with server(tmp_path, *LIMIT) as admin:
        truth = fill(admin, [40] * 1_500 + [3 * MIB] * 3 + [40] * 20)
        with user(admin, *rights) as client:
            assert read_entries(client, read_tail(client, STREAM)) == truth


@pytest.mark.parametrize("sizes", [[40], [3 * MIB], [40, 3 * MIB], [3 * MIB, 40], [64 << 10], [(64 << 10) + 8], []])
def test_the_abridged_inspection_finds_what_the_whole_one_finds(sizes: list[int], tmp_path: Path) -> None:
    with server(tmp_path) as client:
        client.xgroup_create(STREAM, "g", mkstream=True)
        fill(client, sizes)
        for entry in (None, 1 << 64, 99 << 64):
            whole = inspect_limited(client, STREAM, entry, ("XLEN", STREAM))
            assert inspect_abridged(client, STREAM, entry, ("XLEN", STREAM)) == whole
        assert inspect_abridged(client, "absent", 1 << 64) == (None, None, [])


def test_a_hash_saved_by_a_release_that_did_not_abridge_entries_is_no_reason_to_refuse_the_stream(
    tmp_path: Path,
) -> None:
    with server(tmp_path) as client:
        fill(client, [3 * MIB])
        tail = read_tail(client, STREAM)
    old = Checkpoint(tail.last, 1, tail.last, 1, b"h" * 32)
    assert why_rewound(tail, old, tail.last_hash) is None
    assert why_rewound(tail, Checkpoint(tail.last, 1, tail.last, 1, b"h" * 33), tail.last_hash) is not None


def test_a_sample_of_large_entries_and_the_status_of_their_streams_are_read_within_the_limit(
    tmp_path: Path, database: psycopg.Connection
) -> None:
    with server(tmp_path, *LIMIT) as client:
        truth = fill(client, [40] * 30 + [700_000] * 20)
        client.xadd("small", {"value": "x"})
        client.set("not-a-stream", 1)
        replies = Replies(client)
        sampled = [fields for group in sample_stream(client, STREAM, 100) for fields in group.documents()]
        assert sampled == [{b"value": fields[1]} for _, fields in truth]
        statuses = stream_statuses(client, read_ledger_figures(database), [STREAM, "small", "not-a-stream", "no"])
        lags = {one.name: one.lag for one in statuses}
        assert lags == {STREAM: len(truth), "small": 1}
        assert max(replies.sizes) <= MIB
