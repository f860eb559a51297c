"""Small streams that Hypothesis makes up and, where one shows a fault, makes smaller: each entry meets its fate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psycopg
import pytest
import redis
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from infra.connections import Clients
from tests.conftest import Servers
from tests.fuzz.books import Met, differences
from tests.fuzz.layouts import LAYOUTS, MAPPINGS
from tests.fuzz.prediction import Oracle
from tests.fuzz.seed import SEED
from tests.fuzz.spoiling import BAD_IDS, BAD_TIMES, BEYOND_NUMERIC, LONE_SURROGATES, NOT_JSON, NOT_UTF8
from tests.fuzz.streams import EARLIEST, LATEST, add, drain_plainly, forget, ids

# Few of each, so that keys come again: with the same content, with other content, in other spellings.
IDS = ["00000000-0000-4000-8000-000000000001", "{00000000000040008000000000000001}", "0" * 31 + "2", "order-17"]
TIMES = ["2026-11-20T10:00:00Z", "1795168800", "1795168800000.5", "2026-11-20 10:00", "20261120T110000+0100"]
USERS = ["u", "5", "", "né", "x" * 5_000]
PROPERTIES = [b"{}", b'{"a": 1.0}', b'{"a":1, "a":1e0}', b"null", b"[]", b'"\\ud83d\\ude00"', b'{"\\u00e9": "\\u0000"}']
COLUMNS = {
    **dict.fromkeys(("event_id", "id", "ref"), IDS),
    **dict.fromkeys(("time", "timestamp", "at", "occurred_at"), TIMES),
    **dict.fromkeys(("event_type", "user_id", "kind", "source", "who"), USERS),
}
BAD_TEXTS = [*BAD_IDS, *BAD_TIMES, "a\0b"]
BAD_BYTES = [*NOT_UTF8, *LONE_SURROGATES, *NOT_JSON, *BEYOND_NUMERIC]
ANY_BYTES = st.sampled_from(BAD_BYTES) | st.binary(max_size=20)
ANY_TEXT = st.sampled_from(BAD_TEXTS) | st.text(max_size=6)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
).map(lambda value: json.dumps(value).encode())
JSON = st.sampled_from(PROPERTIES) | ANY_JSON | ANY_BYTES


def text_of(column: str) -> st.SearchStrategy[bytes]:
    good = st.sampled_from(COLUMNS[column])
    return (good | good | good | good | ANY_TEXT).map(str.encode)


def value_of(column: str) -> st.SearchStrategy[bytes]:
    """The same as it stands in a document: in quotes mostly, with quotes of its own as they come."""
    quoted = text_of(column).map(lambda text: b'"' + text.replace(b"\0", b"\\u0000") + b'"')
    return quoted | quoted | quoted | text_of(column) | JSON


# What a layout reads, so that an entry can be a good one at all.
NAMES = (("event_id", "event_type", "user_id", "time"), ("ref", "source", "kind", "who", "at"))
NAMES += (("id", "source", "kind", "who", "occurred_at"), ("id", "kind", "who", "at"))
PROPERTIES_NAMES = (b"properties", b"object", b"more")
Pairs = list[tuple[bytes, bytes]]


@st.composite
def pairs(draw: st.DrawFn, document: bool) -> Pairs:
    """Names and values: those of a layout, now and then one less, and some more, in any order."""
    names = list(draw(st.sampled_from(NAMES)))
    if draw(st.integers(0, 9)) == 9:
        names.remove(draw(st.sampled_from(names)))
    drawn = [(name.encode(), draw(value_of(name) if document else text_of(name))) for name in names]
    drawn += draw(st.lists(st.tuples(st.sampled_from(PROPERTIES_NAMES), JSON), max_size=2))
    if draw(st.integers(0, 4)) == 4:
        more = st.sampled_from([name.encode() for name in COLUMNS] + [b"", b"data", b"doc"]) | st.binary(max_size=6)
        drawn += draw(st.lists(st.tuples(more, JSON | ANY_BYTES), max_size=3))
    return draw(st.permutations(drawn)) if draw(st.booleans()) else drawn


def document_of(members: Pairs) -> bytes:
    return (
        b"{" + b",".join(json.dumps(name.decode("latin-1")).encode() + b":" + value for name, value in members) + b"}"
    )


FLAT = pairs(document=False).map(lambda drawn: [part for pair in drawn for part in pair])
DOCUMENT = pairs(document=True).map(document_of) | ANY_BYTES
IN_A_FIELD = st.tuples(st.sampled_from([b"data", b"doc"]), DOCUMENT).map(list)
# An entry without a field is one that Redis does not take.
ENTRY = (
    FLAT.filter(len)
    | IN_A_FIELD
    | IN_A_FIELD
    | st.lists(st.tuples(ANY_BYTES, ANY_BYTES), min_size=1, max_size=3).map(
        lambda drawn: [part for pair in drawn for part in pair]
    )
)


@pytest.fixture(scope="module")
def clients(servers: Servers) -> Iterator[Clients]:
    with Clients(servers.settings) as clients:
        yield clients


@seed(SEED)
@settings(deadline=None, max_examples=300, database=None)
@given(
    stream=st.sampled_from(sorted(LAYOUTS)),
    drains=st.lists(st.lists(ENTRY, min_size=1, max_size=8), min_size=1, max_size=3),
    batch_rows=st.sampled_from([1, 2, 3, 100]),
)
def test_every_entry_of_any_small_stream_meets_the_fate_that_the_oracle_says(
    clients: Clients,
    mappings: Path,
    emptied: psycopg.Connection,
    stream: str,
    drains: list[list[list[bytes]]],
    batch_rows: int,
) -> None:
    forget(clients.redis, emptied)
    met = Met(Oracle(LAYOUTS[stream], EARLIEST, LATEST))
    numbers = ids(Random(SEED))
    for entries in drains:
        numbered = list(zip(numbers, entries, strict=False))
        for entry_id, fields in numbered:
            met.meet(entry_id, fields)
        add(clients.redis, stream, numbered)
        drain_plainly(clients, stream, mappings, batch_rows)
    assert differences(emptied, {stream: met}) == [], f"SPILLWAY_TEST_FUZZ_SEED={SEED}"


@pytest.fixture(scope="module")
def emptied(servers: Servers) -> Iterator[psycopg.Connection]:
    """A connection for looking; the tables are empty before each example and after the last."""
    with (
        psycopg.connect(servers.settings.database, autocommit=True) as connection,
        redis.Redis.from_url(servers.settings.redis) as client,
    ):
        yield connection
        forget(client, connection)


@pytest.fixture(scope="module")
def mappings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fuzz") / "spillway.toml"
    path.write_text(MAPPINGS)
    return path
