"""A producer chooses the name of a stream: a bad one harms its own stream only, and no terminal obeys it."""

from __future__ import annotations

import json

import psycopg
import pytest
import redis

from infra.display import markdown, printable, printable_json
from infra.producers.send import send
from tasks.reconcile.balance import known_streams
from tests.support.command_line import RunSpillway
from tests.support.oracle import flat_rows, table_rows
from tests.support.stream_entries import event

ODD = [
    "mk[/x]",
    "a*",
    "a?b",
    "esc\x1b[31mred",
    "osc\x1b]0;title\x07",
    "pipe|`x`[l](u)",
    "<b>",
    "neu\u202egnal",
    "c1\x9b2J",
]
BAD = ["nul\0", "x" * 10_000, "was@again-1", f"file:{9:064x}"]


def test_a_pattern_drains_all_streams_but_those_whose_names_the_tables_cannot_hold(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    events = [event(n) for n in range(len(ODD) + len(BAD) + 1)]
    for name, one in zip([*ODD, *BAD], events, strict=False):
        redis_client.xadd(name, one)  # type: ignore[arg-type]
    redis_client.xadd(b"\xff\xfe", events[-1])  # type: ignore[arg-type]
    code, out, err = spillway("drain", "--stream", "*")
    assert table_rows(database) == flat_rows(events[: len(ODD)])
    assert code == 0
    assert "mk[/x]" in out
    assert err.count("is skipped") == len(BAD) + 1
    for text in (out, err):
        assert not any(sign in text for sign in ("\x1b]", "\x1b[31m", "\x9b", "\x07", "\u202e", "\0", "x" * 500))
    for name in ODD:
        literal = name.replace("*", "\\*").replace("?", "\\?").replace("[", "\\[")
        code, out, _ = spillway("drain", "--stream", literal, "--json")
        assert (code, json.loads(out)["read"]) == (0, 0), name
    code, out, _ = spillway("reconcile", "--stream", "*")
    assert (code, "everything balances" in out) == (0, True)
    assert not any(sign in out for sign in ("\x1b", "\x9b", "\x07", "\u202e"))
    assert known_streams(database, ["a\\*"]) == ["a*"]


def test_an_escaped_name_is_the_stream_of_that_name_and_no_other(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    send(redis_client, "a*", [event(1)])
    send(redis_client, "ab", [event(2)])
    assert spillway("drain", "--stream", "a\\*")[0] == 0
    assert table_rows(database) == flat_rows([event(1)])


@pytest.mark.parametrize("name", ["nul\0name", "y" * 10_000])
def test_a_bad_name_that_is_asked_for_is_an_error_in_one_short_line(name: str) -> None:
    from infra.errors.exceptions import Terminal
    from tasks.streams.find import find_streams

    with pytest.raises(Terminal, match="its name has") as refused:
        find_streams(redis.Redis(), [name])
    assert len(str(refused.value)) < 400
    assert "\0" not in str(refused.value)


def test_what_is_shown_is_escaped_for_its_place() -> None:
    assert printable("a\x1b[2J\x9b\nb") == "a\\x1b[2J\\x9b\\nb"
    assert markdown("[x](u)|`c`<b>") == "\\[x\\](u)\\|\\`c\\`&lt;b&gt;"
    assert json.loads(printable_json(json.dumps({"a": "\x9b\u202e"}, ensure_ascii=False))) == {"a": "\x9b\u202e"}
