"""The oracle's predictions about JSON agree with a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from random import Random

import psycopg
import pytest

from tests.fuzz.jsonb import BEYOND_DEPTH, SURE_DEPTH, Refused, compared, parse, stored
from tests.fuzz.seed import SEED
from tests.fuzz.spelling import any_tree, spell_tree
from tests.fuzz.spoiling import BEYOND_NUMERIC, LONE_SURROGATES, NOT_JSON, TOO_DEEP, WITHIN_NUMERIC, with_noise
from tests.support.servers import Servers

_TRY = """
    CREATE FUNCTION pg_temp.as_jsonb(document text) RETURNS jsonb LANGUAGE plpgsql AS $$
    BEGIN
        RETURN document::jsonb;
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
        RETURN NULL;
    END $$"""


@pytest.fixture(scope="module")
def server(servers: Servers) -> Iterator[psycopg.Connection]:
    with psycopg.connect(servers.settings.database, autocommit=True) as connection:
        connection.execute(_TRY)
        yield connection


def as_server(server: psycopg.Connection, texts: list[str]) -> list[str | None]:
    """What jsonb makes of each text; None if it refuses it."""
    query = "SELECT pg_temp.as_jsonb(t)::text FROM unnest(%s::text[]) WITH ORDINALITY AS d (t, n) ORDER BY n"
    return [document for (document,) in server.execute(query, [texts])]


def as_oracle(text: str) -> str | None:
    try:
        return stored(parse(text))
    except Refused:
        return None


def check(server: psycopg.Connection, texts: list[str]) -> None:
    for text, found in zip(texts, as_server(server, texts), strict=True):
        expected = as_oracle(text)
        assert (found is None) == (expected is None), f"{text[:200]!a}: the server says {ascii(found)[:200]}"
        assert found is None or stored(parse(found)) == expected, ascii(text[:200])


def test_the_oracle_and_the_server_agree_on_edge_cases_of_jsonb(
    server: psycopg.Connection,
) -> None:
    texts = [*LONE_SURROGATES, *NOT_JSON, *BEYOND_NUMERIC, *WITHIN_NUMERIC, *TOO_DEEP, b'{"a": "\\u0000", "a": 1}']
    texts += [b"[" * depth + b"]" * depth for depth in (SURE_DEPTH, BEYOND_DEPTH + 1)]
    texts += [
        b"0e-16384",
        b"0e-16383",
        b"1.0e-16383",
        b"0.0001e131075",
        b"0.0001e131076",
        b"0e1073741822",
    ]
    texts += [b"-0.0", b"1E+2", b"100e-2", b'"\\ud83d\\ude00"', b'"\x7f"', b'{"b":1,"aa":2,"b":3}', b" \t\r\n1 "]
    check(server, [text.decode() for text in texts if b"\0" not in text])


def test_the_oracle_and_the_server_agree_on_random_jsonb(server: psycopg.Connection) -> None:
    random = Random(f"{SEED} jsonb")
    texts = [spell_tree(random, any_tree(random)).encode() for _ in range(3_000)]
    noisy = [with_noise(random, [text])[0].decode(errors="replace").replace("\0", "") for text in texts]
    check(server, [text.decode() for text in texts] + noisy)
    assert 500 < sum(as_oracle(text) is None for text in noisy) < 2_500, "both kinds are met"


def test_the_oracle_and_the_server_agree_on_equal_jsonb(server: psycopg.Connection) -> None:
    random = Random(f"{SEED} equal")
    trees = [any_tree(random) for _ in range(300)]
    texts = [spell_tree(random, tree) for tree in trees for _ in range(2)]
    texts += ["1", "1.0", "10e-1", "1e0", "0", "-0.0", '"1"', "[1]", "[1.0]", "{}", "[]", "null", json.dumps("")]
    query = "SELECT a::jsonb = b::jsonb FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS d (a, b, n) ORDER BY n"
    found = [same for (same,) in server.execute(query, [texts[:-1], texts[1:]])]
    expected = [compared(parse(one)) == compared(parse(other)) for one, other in pairwise(texts)]
    assert found == expected
    assert {True, False} == set(expected)
