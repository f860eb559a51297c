"""A ledger that somebody edited: what is typed as the messages say must not load a row twice, or lose one.

The table has no unique key, so nothing but the ledger prevents that.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from flows.plain.drain import drain
from infra.errors.exceptions import Terminal
from infra.settings import Settings
from tests.support.command_line import RunSpillway
from tests.support.stream_entries import event

_MOST_STEPS = 4  # of somebody who follows the messages


@pytest.fixture
def keyless(
    redis_client: redis.Redis, alter: Callable[[str], None], configure: Callable[..., Settings], stream: str,
    tmp_path: Path,
) -> str:  # fmt: skip
    """A stream whose ten entries are in a table without a key."""
    alter("CREATE TABLE users.copy (LIKE public.events)")
    path = tmp_path / "spillway.toml"
    path.write_text(f'[streams."{stream}"]\ntable = "users.copy"\n')
    configure(mappings=path)
    _add(redis_client, stream, 0, 10)
    assert drain(stream)["inserted"] == 10
    return stream


def _add(client: redis.Redis, stream: str, first: int, stop: int) -> None:
    for number in range(first, stop):
        client.xadd(stream, event(number))  # type: ignore[arg-type]


def _numbers(database: psycopg.Connection) -> list[int]:
    """Those of the events in the table; see `event`."""
    rows = database.execute("SELECT event_id FROM users.copy").fetchall()
    numbers = {event(number)[b"event_id"].decode(): number for number in range(20)}
    return sorted(numbers[str(event_id)] for (event_id,) in rows)


@pytest.mark.parametrize(
    ("edit", "undo"),
    [
        ("read = read + 1", None),
        ("read = read + 1, inserted = inserted + 1", None),
        ("drained = drained + nummultirange(numrange(upper(drained), upper(drained) + 1e30))", None),
        ("drained = '{}'", None),
        ("lost = lost + 1", "lost = lost - 1"),
        ("baseline = baseline + 1", "baseline = baseline - 1"),
    ],
)
def test_following_the_messages_repairs_it_and_loads_each_event_once(
    edit: str, undo: str | None, keyless: str, redis_client: redis.Redis, database: psycopg.Connection,
    spillway: RunSpillway,
) -> None:  # fmt: skip
    """Some repairs are a command. The others take the edit back by hand."""
    database.execute(f"UPDATE spillway.streams SET {edit}".encode())
    for _ in range(_MOST_STEPS):
        code, out, err = spillway("reconcile", "--stream", keyless, "--json")
        if not code:
            break
        repair = json.loads(out)["findings"][0]["repair"]
        if repair.startswith("spillway "):
            assert spillway(*shlex.split(repair)[1:])[0] == 0
        else:
            assert undo is not None
            database.execute(f"UPDATE spillway.streams SET {undo}".encode())
    assert code == 0, (out, err)
    _add(redis_client, keyless, 10, 12)
    drain(keyless)
    assert _numbers(database) == [*range(12)]


@pytest.mark.parametrize("edit", ["read = read + 1", "lost = lost + 1", "baseline = baseline + 1"])
def test_it_does_not_say_that_the_stream_went_back_and_accepts_that_only_if_told_so(
    edit: str, keyless: str, database: psycopg.Connection, command_line: RunSpillway
) -> None:
    database.execute(f"UPDATE spillway.streams SET {edit}".encode())
    with pytest.raises(Terminal, match=r"but the ledger is wrong: .*nothing was read; .*spillway reconcile --stream"):
        drain(keyless)
    code, out, err = command_line("stream", "accept-rewind", keyless)
    assert (code, out) == (1, "")
    assert "nothing was changed" in err
    assert _numbers(database) == [*range(10)]
    code, out, _ = command_line("stream", "accept-rewind", keyless, "--anyway")
    assert code == 0
    assert drain(keyless)["inserted"] == 10
