"""Small streams that Hypothesis generates and shrinks: each entry has its predicted fate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psycopg
import pytest
import redis
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from infra.connections.clients import Clients
from tests.fuzz.differences import PredictedStream, differences
from tests.fuzz.layouts import LAYOUTS, MAPPINGS
from tests.fuzz.prediction import FLAT, JSON, Layout, Oracle
from tests.fuzz.seed import SEED
from tests.fuzz.spoiling import BAD_IDS, BAD_TIMES, BEYOND_NUMERIC, LONE_SURROGATES, NOT_JSON, NOT_UTF8
from tests.fuzz.streams import EARLIEST, LATEST, add, drain_plainly, forget, ids
from tests.support.servers import Servers

# A few values of each, so that keys repeat, with the same or other content and spelling.
IDS = ["00000000-0000-4000-8000-000000000001", "{00000000000040008000000000000001}", "0" * 31 + "2", "order-17"]
TIMES = ["2026-11-20T10:00:00Z", "1795168800", "1795168800000.5", "2026-11-20 10:00", "20261120T110000+0100"]
USERS = ["u", "5", "", "né", "x" * 5_000]
PROPERTIES = [b"{}", b'{"a": 1.0}', b'{"a":1, "a":1e0}', b"null", b"[]", b'"\\ud83d\\ude00"', b'{"\\u00e9": "\\u0000"}']
BAD_TEXTS = [*BAD_IDS, *BAD_TIMES, "a\0b"]
BAD_BYTES = [*NOT_UTF8, *LONE_SURROGATES, *NOT_JSON, *BEYOND_NUMERIC]
ANY_BYTES = st.sampled_from(BAD_BYTES) | st.binary(max_size=20)
ANY_TEXT = st.sampled_from(BAD_TEXTS) | st.text(max_size=6)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
).map(lambda value: json.dumps(value).encode())
ANY_NAME = st.sampled_from([b"", b"data", b"doc", b"event_id", b"timestamp", b"time"]) | st.binary(max_size=6)
Pairs = list[tuple[bytes, bytes]]


def seldom(draw: st.DrawFn) -> bool:
    return draw(st.integers(0, 19)) == 13


def value_of(draw: st.DrawFn, good: list[str], document: bool) -> bytes:
    """A text as written in a flat entry or, mostly quoted, in a document."""
    text = draw(ANY_TEXT if seldom(draw) else st.sampled_from(good)).encode()
    if seldom(draw):
        return draw(ANY_JSON | ANY_BYTES)
    return b'"' + text.replace(b"\0", b"\\u0000") + b'"' if document else text


@st.composite
def entries(draw: st.DrawFn, layout: Layout) -> list[bytes]:
    """An entry of a layout, mostly good, as alternating names and values."""
    document = layout.document is not None
    drawn: Pairs = []
    for column, good in zip(layout.columns, (TIMES, IDS, USERS, USERS), strict=True):
        drawn += [(key.encode(), value_of(draw, good, document)) for key in column.keys if not seldom(draw)]
    if draw(st.booleans()):
        bad = ANY_JSON | ANY_BYTES if seldom(draw) else st.sampled_from(PROPERTIES)
        drawn.append(((layout.properties or "more").encode(), draw(bad)))
    if seldom(draw):
        drawn += draw(st.lists(st.tuples(ANY_NAME, ANY_JSON | ANY_BYTES), min_size=1, max_size=3))
    if seldom(draw):
        drawn = draw(st.permutations(drawn * 2))
    if layout.document is not None:
        drawn = [(layout.document, draw(ANY_BYTES) if seldom(draw) else document_of(drawn))]
    if seldom(draw):
        drawn.insert(0, draw(st.tuples(ANY_NAME, ANY_BYTES)))
    # Redis refuses an entry without fields.
    return [part for pair in drawn or [(b"", b"")] for part in pair]


def document_of(members: Pairs) -> bytes:
    return (
        b"{" + b",".join(json.dumps(name.decode("latin-1")).encode() + b":" + value for name, value in members) + b"}"
    )


@dataclass(frozen=True)
class Example:
    """A stream, and the entries that are added before each of its drains."""

    stream: str
    drains: list[list[list[bytes]]]
    batch_rows: int


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """Streams of few entries, so that byte-identical ones occur, too."""
    stream = draw(st.sampled_from(sorted(LAYOUTS)))
    layout = LAYOUTS[stream]
    entry = entries(layout) if layout else entries(FLAT) | entries(JSON)
    some = st.sampled_from(draw(st.lists(entry, min_size=1, max_size=6)))
    drains = draw(st.lists(st.lists(some, min_size=1, max_size=8), min_size=1, max_size=3))
    return Example(stream, drains, draw(st.sampled_from([1, 2, 3, 100])))


@pytest.fixture(scope="module")
def clients(servers: Servers) -> Iterator[Clients]:
    with Clients(servers.settings) as clients:
        yield clients


@seed(SEED)
@settings(max_examples=150, database=None)
@given(examples())
def test_every_entry_of_any_small_stream_has_the_predicted_fate(
    clients: Clients, mappings: Path, emptied: psycopg.Connection, example: Example
) -> None:
    forget(clients.redis, emptied)
    predicted = PredictedStream(Oracle(LAYOUTS[example.stream], EARLIEST, LATEST))
    numbers = ids(Random(SEED))
    for entries_of_one in example.drains:
        numbered = list(zip(numbers, entries_of_one, strict=False))
        for entry_id, fields in numbered:
            predicted.predict(entry_id, fields)
        add(clients.redis, example.stream, numbered)
        drain_plainly(clients, example.stream, mappings, example.batch_rows)
    assert differences(emptied, {example.stream: predicted}) == [], f"SPILLWAY_TEST_FUZZ_SEED={SEED}"


@pytest.fixture(scope="module")
def emptied(servers: Servers) -> Iterator[psycopg.Connection]:
    """A connection for queries. The tables are empty before each example and after the last."""
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
