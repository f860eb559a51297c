"""Patterns match what Redis matches: Redis itself is the oracle."""

from __future__ import annotations

import random

import redis

from tasks.streams.find import scan_streams
from tasks.streams.glob import covering_pattern, glob_regex

_PIECES = ["a", "b", "c", "-", "^", "!", "*", "?", "[", "]", "\\", "[a-c]", "[^a]", "[c-a]", "[]", "[^]", "é", "**"]


def test_a_pattern_matches_the_same_keys_as_in_redis(redis_client: redis.Redis) -> None:
    rng = random.Random(15)
    for name in {"".join(rng.choices("abc-^!]\\[*é", k=rng.randint(1, 5))) for _ in range(400)}:
        redis_client.xadd(name, {"a": "b"})
    redis_client.xadd(b"\xffa\n", {"a": "b"})
    for _ in range(600):
        pattern = "".join(rng.choices(_PIECES, k=rng.randint(1, 5)))
        expected = set(redis_client.keys(pattern))
        expression = glob_regex(pattern)
        assert {key for key in redis_client.keys("*") if expression.fullmatch(key)} == expected, pattern


def test_one_scan_finds_the_streams_of_all_patterns_and_nothing_else(redis_client: redis.Redis) -> None:
    for name in ("events:a", "events:b", "even", "orders", "other"):
        redis_client.xadd(name, {"a": "b"})
    redis_client.set("events:text", "no stream")
    for patterns in (["events:*", "even"], ["events:*", "o[r]*"], ["ev?n", "events:[b]"], ["*"]):
        expected = {key for pattern in patterns for key in redis_client.keys(pattern) if key != b"events:text"}
        redis_client.config_resetstat()
        assert set(scan_streams(redis_client, patterns).names) == expected
        assert redis_client.info("commandstats")["cmdstat_scan"]["calls"] == 1


def test_the_covering_pattern_is_the_common_beginning() -> None:
    assert covering_pattern(["events*", "events*"]) == "events*"
    assert covering_pattern(["events:a*", "events:b?"]) == "events:*"
    assert covering_pattern(["ev", "events[a]"]) == "ev*"
    assert covering_pattern(["a\\*b*", "ab*"]) == "a*"
    assert covering_pattern(["a*", "b*"]) == "*"
