"""Ledgers under which nothing is loaded any more: they are reconciled if they are named, or asked for."""

from __future__ import annotations

import psycopg
import pytest
import redis

from flows.plain.drain import drain
from flows.plain.reconcile import reconcile
from infra.producers.send import send
from tasks.ledger.names import accept_rewind
from tests.support.stream_entries import event


def checked(*arguments: object, **options: object) -> list[str]:
    found = reconcile(*arguments, **options)  # type: ignore[arg-type]
    assert found["balanced"]
    return [one["stream"] for one in found["streams"]]


@pytest.fixture
def former(redis_client: redis.Redis, database: psycopg.Connection, stream: str) -> str:
    """The ledger of a stream that was created again. Returns its name."""
    send(redis_client, stream, [event(1), event(2)])
    drain(stream)
    redis_client.delete(stream)
    name = accept_rewind(database, stream)
    send(redis_client, stream, [event(3)])
    drain(stream)
    return name


def test_a_pattern_leaves_a_former_stream_out_unless_it_is_asked_for(stream: str, former: str) -> None:
    assert checked("*") == [stream]
    assert checked("*", files=False) == [stream]
    assert checked("*", retired=True) == [stream, former]
    assert checked(stream) == [stream]


def test_a_former_stream_that_is_named_balances_and_is_not_compared(stream: str, former: str) -> None:
    assert checked(former) == [former]
    found = reconcile("*", deep=True, retired=True)
    assert found["balanced"]
    assert found["compared"] == 1
    assert [note for note in found["notes"] if former in note]


@pytest.mark.parametrize("named", ["*", "the stream", "the former one"])
def test_a_former_stream_that_does_not_balance_is_found_without_being_asked_for(
    named: str, database: psycopg.Connection, stream: str, former: str
) -> None:
    """The metrics report it under the name of the stream, so that is what somebody types."""
    database.execute("UPDATE spillway.streams SET lost = 1 WHERE name = %s", [former])
    found = reconcile({"the stream": stream, "the former one": former}.get(named, named), fail=False)
    assert {finding["stream"] for finding in found["findings"]} == {former}
