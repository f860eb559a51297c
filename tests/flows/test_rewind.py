"""A stream that is no longer the one that was drained is refused before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import redis

from flows.drain import drain
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from tests.support.command_line import RunSpillway
from tests.support.oracle import flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.results import drain_counts
from tests.support.stream_entries import event

pytestmark = pytest.mark.usefixtures("prefect_server")

MADE_LATER = 2_000_000_000_000  # ms: later than every id that Redis gives out by itself today
Rewind = Callable[[redis.Redis, str], list[dict[bytes, bytes]]]


def add(client: redis.Redis, stream: str, *numbers: int, ms: int | None = None) -> list[dict[bytes, bytes]]:
    """Add the events with these numbers, from the id `ms` on if it is given."""
    entries = [event(n) for n in numbers]
    for i, entry in enumerate(entries):
        client.xadd(stream, entry, id="*" if ms is None else f"{ms + i}-0")  # type: ignore[arg-type]
    return entries


def created_again(client: redis.Redis, stream: str) -> list[dict[bytes, bytes]]:
    client.delete(stream)
    return add(client, stream, 100, 101)


def created_again_with_more_entries_than_before(client: redis.Redis, stream: str) -> list[dict[bytes, bytes]]:
    client.delete(stream)
    return add(client, stream, *range(100, 130), ms=MADE_LATER)


def restored_from_an_older_copy(client: redis.Redis, stream: str) -> list[dict[bytes, bytes]]:
    """The older copy has the first ten entries of twenty; as many came afterwards as were lost."""
    old: Any = client.xrange(stream, count=10)
    client.delete(stream)
    for entry_id, fields in old:
        client.xadd(stream, fields, id=entry_id)
    return [fields for _, fields in old] + add(client, stream, *range(100, 110), ms=MADE_LATER)


def failed_over_with_a_lost_tail_whose_id_was_used_again(client: redis.Redis, stream: str) -> list[dict[bytes, bytes]]:
    """The replica had not got the last entry; its id was given to another one, and more came."""
    entries: Any = client.xrange(stream)
    client.delete(stream)
    for entry_id, fields in entries[:-1]:
        client.xadd(stream, fields, id=entry_id)
    client.xadd(stream, event(200), id=entries[-1][0])  # type: ignore[arg-type]
    return [fields for _, fields in entries[:-1]] + [event(200)] + add(client, stream, 201, 202, ms=MADE_LATER)


@pytest.mark.parametrize(
    ("rewind", "reason"),
    [
        (created_again, "2 entries were ever added to it, expected 20 or more"),
        (created_again_with_more_entries_than_before, "it holds 30 entries later than .*, expected at most 10"),
        (restored_from_an_older_copy, "its entry .* was drained but no longer exists, although older ones do"),
        (failed_over_with_a_lost_tail_whose_id_was_used_again, "its entry .* differs from the one that was drained"),
    ],
)
def test_it_is_refused_with_the_choices_and_accepted_it_is_drained_whole(
    rewind: Rewind,
    reason: str,
    redis_client: redis.Redis,
    database: psycopg.Connection,
    stream: str,
    spillway: RunSpillway,
) -> None:
    entries = add(redis_client, stream, *range(20), ms=1_700_000_000_000)
    assert drain_counts(drain(stream)) == (20, 20, 0, 0, 0)
    there = rewind(redis_client, stream)
    for _ in range(2):
        with pytest.raises(Terminal, match=f"{reason}.*nothing was read; .*accept-rewind {stream}"):
            drain(stream)
    assert table_rows(database) == flat_rows(entries)
    assert ledger_sums(database, stream) == (20, 20, 0, 0)

    code, out, _ = spillway("stream", "accept-rewind", stream)
    assert code == 0
    old_books = out.split()[-1]
    known = len([entry for entry in there if entry in entries])
    assert drain_counts(drain(stream)) == (len(there), len(there) - known, known, 0, 0)
    assert table_rows(database) == flat_rows([*entries, *there])
    assert ledger_is_whole(database, stream)
    assert ledger_sums(database, old_books) == (20, 20, 0, 0)
    add(redis_client, stream, 300)
    assert drain_counts(drain(stream)) == (1, 1, 0, 0, 0)


def test_a_redis_restored_to_the_newer_state_is_drained_without_intervention(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    entries = add(redis_client, stream, *range(5))
    drain(stream)
    saved: Any = redis_client.dump(stream)
    created_again(redis_client, stream)
    with pytest.raises(Terminal):
        drain(stream)
    redis_client.restore(stream, 0, saved, replace=True)
    entries += add(redis_client, stream, 7)
    assert drain_counts(drain(stream)) == (1, 1, 0, 0, 0)
    assert table_rows(database) == flat_rows(entries)


@pytest.mark.parametrize("what", ["trim", "trim all", "delete the last", "delete one", "empty by deletion"])
def test_ordinary_trimming_and_deleting_is_not_a_rewind(
    what: str, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    entries = add(redis_client, stream, *range(10))
    drain(stream)
    ids: list[Any] = [entry_id for entry_id, _ in redis_client.xrange(stream)]  # type: ignore[union-attr]
    match what:
        case "trim":
            redis_client.xtrim(stream, maxlen=3, approximate=False)
        case "trim all":
            redis_client.xtrim(stream, maxlen=0, approximate=False)
        case "delete the last":
            redis_client.xdel(stream, ids[-1])
        case "delete one":
            redis_client.xdel(stream, ids[4])
        case _:
            redis_client.xdel(stream, *ids)
    for number in (20, 21):
        entries += add(redis_client, stream, number)
        assert drain_counts(drain(stream)) == (1, 1, 0, 0, 0)
    assert table_rows(database) == flat_rows(entries)


def test_an_unknown_stream_cannot_be_accepted(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [event(1)])
    drain(stream)
    code, out, err = spillway("stream", "accept-rewind", "other")
    assert (code, out) == (1, "")
    assert f"the ledger has no stream 'other', expected one of: {stream}" in err
