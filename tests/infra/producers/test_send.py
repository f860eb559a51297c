"""Every entry is sent once and in order, and an error reports what was sent."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from itertools import chain

import hiredis
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from infra.connections import clients
from infra.errors.exceptions import Terminal, Transient
from infra.producers import send as module
from infra.producers.send import Pace, send
from infra.settings import Settings, host_of


def _entries(count: int) -> list[dict[bytes, bytes]]:
    return [{b"n": b"%d" % i, b"bytes": b"\x00\xff\r\n\xc3\xa9"} for i in range(count)]


def _in(client: redis.Redis, stream: str) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in client.xrange(stream)]


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 25])
def test_every_entry_is_sent_in_order_at_any_batch_size(redis_client: redis.Redis, stream: str, count: int) -> None:
    confirmed: list[int] = []
    assert send(redis_client, stream, _entries(count), batch=10, on_sent=confirmed.append) == count
    assert _in(redis_client, stream) == _entries(count)
    assert confirmed == [10] * (count // 10) + ([count % 10] if count % 10 else [])


@given(st.lists(st.dictionaries(st.binary(), st.binary(), min_size=1), min_size=1), st.binary(min_size=1))
def test_commands_have_the_same_bytes_as_those_of_hiredis(entries: list[dict[bytes, bytes]], stream: bytes) -> None:
    expected = [hiredis.pack_command((b"XADD", stream, b"*", *chain(*entry.items()))) for entry in entries]
    assert list(module._packed(stream, entries, 5000)) == [expected]


def test_field_and_stream_names_may_contain_any_bytes(redis_client: redis.Redis, stream: str) -> None:
    entry = {b"%d\r\n%%": b"%b", b"": b"", b"\xff": b"\x00"}
    send(redis_client, stream + " %s é", [entry])
    assert _in(redis_client, stream + " %s é") == [entry]


def test_a_batch_is_bounded_by_bytes(redis_client: redis.Redis, stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH_BYTES", 1)
    confirmed: list[int] = []
    assert send(redis_client, stream, _entries(3), on_sent=confirmed.append) == 3
    assert confirmed == [1, 1, 1]


def test_a_large_value_is_sent_whole(redis_client: redis.Redis, stream: str) -> None:
    value = bytes(range(256)) * 40_000
    send(redis_client, stream, [{b"data": value}] * 2)
    assert _in(redis_client, stream) == [{b"data": value}] * 2


def test_entries_are_consumed_lazily(redis_client: redis.Redis, stream: str) -> None:
    lengths: list[int] = []

    def entries() -> Iterator[dict[bytes, bytes]]:
        for i in range(100):
            lengths.append(redis_client.xlen(stream))
            yield {b"n": b"%d" % i}

    assert send(redis_client, stream, entries(), batch=10) == 100
    assert lengths[-1] >= 80


def test_entries_before_an_error_of_the_source_are_sent(redis_client: redis.Redis, stream: str) -> None:
    def entries() -> Iterator[dict[bytes, bytes]]:
        yield from _entries(13)
        raise Terminal("the source broke")

    confirmed: list[int] = []
    with pytest.raises(Terminal, match="the source broke"):
        send(redis_client, stream, entries(), batch=5, on_sent=confirmed.append)
    assert sum(confirmed) == 13
    assert _in(redis_client, stream) == _entries(13)


def test_a_key_of_another_type_is_terminal_and_the_client_still_works(redis_client: redis.Redis, stream: str) -> None:
    redis_client.set(stream, "text")
    with pytest.raises(Terminal, match=r"WRONGTYPE.*0 entries were sent; name another stream"):
        send(redis_client, stream, _entries(7), batch=3)
    assert redis_client.get(stream) == b"text"


def test_a_full_redis_is_transient_and_keeps_earlier_entries(redis_client: redis.Redis, stream: str) -> None:
    def entries() -> Iterator[dict[bytes, bytes]]:
        for i, entry in enumerate(_entries(30)):
            if i == 20:
                redis_client.config_set("maxmemory", 1)
            yield entry

    limit = redis_client.config_get("maxmemory")["maxmemory"]
    try:
        with pytest.raises(Transient, match=r"used memory.*20 entries were sent; drain the stream"):
            send(redis_client, stream, entries(), batch=10)
    finally:
        redis_client.config_set("maxmemory", limit)
    assert _in(redis_client, stream) == _entries(20)


def test_a_lost_connection_reports_what_is_certain_and_what_is_not(redis_client: redis.Redis, stream: str) -> None:
    def entries() -> Iterator[dict[bytes, bytes]]:
        for i, entry in enumerate(_entries(25)):
            if i == 20:
                redis_client.client_kill_filter(_type="normal", skipme=True)
            yield entry

    with pytest.raises(Transient, match=r"start it \(spillway up\)") as caught:
        send(redis_client, stream, entries(), batch=10)
    # How many replies arrived depends on timing. The message must be true in every case.
    reported = re.search(r"(\d+) entries were sent and up to (\d+) more may have been", str(caught.value))
    assert reported
    confirmed, unconfirmed = int(reported[1]), int(reported[2])
    arrived = _in(redis_client, stream)
    assert arrived == _entries(len(arrived))
    assert confirmed <= len(arrived) <= confirmed + unconfirmed


def test_a_refused_connection_names_the_server_and_the_next_step() -> None:
    with socket.socket() as free:  # bound, not listening: nobody else can listen there
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(Transient, match=rf"127.0.0.1:{port}.*0 entries were sent; start it \(spillway up\)"):
            send(clients.redis_client(Settings(redis_url=SecretStr(f"redis://127.0.0.1:{port}"))), "s", _entries(1))


def test_a_wrong_password_is_terminal_and_not_shown(env: dict[str, str], stream: str) -> None:
    url = f"redis://nobody:hush-hush@{host_of(env['SPILLWAY_REDIS_URL'])}"
    client = clients.redis_client(Settings(redis_url=SecretStr(url)))
    with pytest.raises(Terminal, match="correct the user and password in SPILLWAY_REDIS_URL") as caught:
        send(client, stream, _entries(1))
    assert "hush-hush" not in str(caught.value)


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@given(st.floats(0.1, 1e6), st.lists(st.integers(1, 5000), min_size=2, max_size=50))
def test_the_rate_is_exact_if_sending_takes_no_time(rate: float, batches: list[int]) -> None:
    clock = _Clock()
    pace = Pace(rate, lambda: clock.now, clock.sleep)
    for entries in batches:
        pace.wait(entries)
    assert clock.now - 100 == pytest.approx(sum(batches[:-1]) / rate, rel=1e-6, abs=1e-6)


def test_a_delayed_sender_catches_up_by_a_second_at_most() -> None:
    clock = _Clock()
    pace = Pace(10, lambda: clock.now, clock.sleep)
    pace.wait(1)
    clock.now += 60
    for _ in range(20):
        pace.wait(1)
    assert sum(clock.slept) == pytest.approx(0.9)


def test_a_rate_makes_small_batches(redis_client: redis.Redis, stream: str) -> None:
    confirmed: list[int] = []
    send(redis_client, stream, _entries(400), rate=1000, on_sent=confirmed.append)
    assert confirmed == [100] * 4
