"""A bad entry among good ones is kept as it came, with the reason, and the others are loaded; an odd one is loaded too.

Each kind of it once, on purpose, in a stream of its own; one drain for all the streams. tests/fuzz mixes the kinds.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import psycopg
import pytest
import redis

from flows.drain import drain
from infra.errors.exceptions import Terminal
from infra.settings import settings
from tests.support.oracle import Key, Row, flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.servers import Servers
from tests.support.stream_entries import event
from tests.support.tables import empty_tables

BEFORE = 7  # good entries that stand before the other one
CASE = 1_000  # how far the ids of two cases are apart
OTHER = 99  # the number of the other one among them


def flat(**changes: bytes | None) -> list[bytes]:
    """Names and values of a flat entry like the good ones; None leaves a field out."""
    fields = event(OTHER) | {name.encode(): value for name, value in changes.items()}
    return [part for name, value in fields.items() if value is not None for part in (name, value)]


def document(**changes: bytes) -> list[bytes]:
    """The same as one JSON document; the changes are JSON."""
    members = {name.decode(): json.dumps(value.decode()).encode() for name, value in event(OTHER).items()}
    members = members | {"properties": b"{}"} | changes
    return [b"data", b"{" + b",".join(b'"%s":%s' % (name.encode(), value) for name, value in members.items()) + b"}"]


HAN = "".join(chr(0x4E00 + i) for i in range(9_000)).encode()  # does not pack
DEEP = 30_000
# An array of 2^24 values needs a gigabyte in one piece while jsonb is made of it, which the server never gives.
MANY = b"[" + b"1," * 2**24 + b"1]"
UTF8 = 'invalid byte sequence for encoding "UTF8": '


@dataclass(frozen=True)
class Bad:
    """A bad entry, the column at fault, and what the reason says."""

    fields: list[bytes]
    column: str
    reason: str


BAD = {
    # Seen by the client.
    "unknown layout": Bad([b"foo", b"bar"], "time", "missing field time"),
    "a name and a value that are empty": Bad([b"", b""], "time", "missing field time"),
    "all values empty": Bad(flat(**{n.decode(): b"" for n in event(OTHER)}), "time", "expected ISO 8601 or a number"),
    "missing field": Bad(flat(user_id=None), "user_id", "missing field user_id"),
    "bad UUID": Bad(flat(event_id=b"no-uuid"), "event_id", "expected a UUID, found 'no-uuid'"),
    "bad time": Bad(flat(time=b"yesterday"), "time", "found 'yesterday'"),
    "a day that is none": Bad(flat(time=b"2026-02-30T00:00:00Z"), "time", "found '2026-02-30T00:00:00Z'"),
    "absurd past": Bad(flat(time=b"0001-01-01T00:00:00Z"), "time", "expected a time within SPILLWAY_MAX_AGE_DAYS"),
    "absurd future": Bad(flat(time=b"9999-12-31T23:59:59Z"), "time", "expected a time within SPILLWAY_MAX_AGE_DAYS"),
    "a number that is no time": Bad(flat(time=b"9" * 40), "time", "expected ISO 8601 or a number"),
    "a text that is no UTF-8": Bad(flat(event_type=b"caf\xe9"), "event_type", "expected UTF-8, found byte 0xe9 at 3"),
    "a surrogate in a text": Bad(flat(user_id=b"\xed\xa0\x80"), "user_id", "expected UTF-8, found byte 0xed at 0"),
    "the last of a repeated field": Bad([*flat(), b"time", b"soon"], "time", "found 'soon'"),
    "no document": Bad([b"data", b""], "data", "truncated"),
    "a cut document": Bad([b"data", document()[1][:-1]], "data", "truncated"),
    "a document and more": Bad([b"data", document()[1] + b"}"], "data", "trailing"),
    "a document that is no object": Bad([b"data", b"[]"], "data", "got `array`"),
    "a member of another type": Bad(document(user_id=b'{"id": 1}'), "data", "got `object` - at `$.user_id`"),
    "a lone surrogate in a document": Bad(document(user_id=b'"\\ud83d"'), "data", "surrogate"),
    "a member that is null": Bad(document(user_id=b"null"), "user_id", "missing field user_id"),
    # Seen by the server: its own words.
    "invalid JSON": Bad(flat(properties=b"{not json"), "properties", "invalid input syntax for type json"),
    "empty JSON": Bad(flat(properties=b""), "properties", "[22P02]"),
    "NaN": Bad(flat(properties=b'{"a": NaN}'), "properties", 'Token "NaN" is invalid. [22P02]'),
    "\\u0000": Bad(flat(properties=b'{"a": "\\u0000"}'), "properties", "\\u0000 cannot be converted to text. [22P05]"),
    "\\u0000 in a document": Bad(document(properties=b'["\\u0000"]'), "properties", "[22P05]"),
    "\\u0000 in a text": Bad(document(user_id=b'"a\\u0000b"'), "user_id", f"{UTF8}0x00 [22021]"),
    "a NUL byte in a text": Bad(flat(event_type=b"a\0b"), "event_type", f"{UTF8}0x00 [22021]"),
    "a NUL byte in JSON": Bad(flat(properties=b'{"a": "\0"}'), "properties", f"{UTF8}0x00 [22021]"),
    "JSON that is no UTF-8": Bad(flat(properties=b'{"a": "\xff"}'), "properties", f"{UTF8}0xff [22021]"),
    "a high surrogate": Bad(
        flat(properties=b'["\\ud83d"]'), "properties", "low surrogate must follow a high surrogate"
    ),
    "a low surrogate": Bad(flat(properties=b'["\\ude00"]'), "properties", "low surrogate must follow a high surrogate"),
    "nested too deep": Bad(
        flat(properties=b"[" * DEEP + b"]" * DEEP), "properties", "stack depth limit exceeded [54001]"
    ),
    "a document nested too deep": Bad(document(properties=b"[" * DEEP + b"]" * DEEP), "data", "recursion"),
    "a number too large": Bad(flat(properties=b"[1e131072]"), "properties", "value overflows numeric format [22003]"),
    "a number too small": Bad(flat(properties=b"[1e-16384]"), "properties", "value overflows numeric format [22003]"),
    "a text too large for an index": Bad(flat(event_type=HAN), "", "[54000]"),
    "more than the server takes": Bad(flat(properties=MANY), "properties", "invalid memory alloc request size"),
}


@dataclass(frozen=True)
class Odd:
    """A good entry of an unusual kind, and event_type, user_id and properties of its row."""

    fields: list[bytes]
    row: Row


LARGE = {"text": "é" * 10_000_000}
ROW = ("click", "user-1", {"n": OTHER, "text": "né ✓"})
TURNED = [part for pair in reversed(list(event(OTHER).items())) for part in pair]

ODD = {
    "fields in another order": Odd(TURNED, ROW),
    "repeated fields, of which the last counts": Odd([b"time", b"soon", b"user_id", b"\xff", *flat()], ROW),
    "a thousand extra fields": Odd([*flat(), *(b"extra-%d" % (n // 2) for n in range(2_000))], ROW),
    "a field without a name": Odd([b"", b"\xff", *flat()], ROW),
    "extra fields of any bytes": Odd([b"\xff\0", b"\0", *flat(), b"data", b"{"], ROW),
    "texts that are empty": Odd(flat(event_type=b"", user_id=b""), ("", "", ROW[2])),
    "no properties": Odd(flat(properties=None), ("click", "user-1", None)),
    "a document among flat entries": Odd(document(user_id=b"17"), ("click", "17", {})),
    "repeated keys, of which the last counts": Odd(
        [b"data", document()[1].replace(b'{"', b'{"user_id":"old","\\u0075ser_id":"older","', 1)],
        ("click", "user-1", {}),
    ),
    "a text of many KB that packs well": Odd(flat(event_type=b"x" * 50_000), ("x" * 50_000, *ROW[1:])),
    "JSON of 20 MB": Odd(flat(properties=json.dumps(LARGE, ensure_ascii=False).encode()), ("click", "user-1", LARGE)),
    "a document of 20 MB": Odd(
        document(properties=json.dumps(LARGE, ensure_ascii=False).encode()),
        ("click", "user-1", LARGE),
    ),
}


@pytest.fixture(scope="module")
def drained(servers: Servers, prefect_server: str) -> Iterator[psycopg.Connection]:
    """All the streams drained; if one failed, its own test reports it."""
    with (
        pytest.MonkeyPatch.context() as patch,
        redis.Redis.from_url(servers.settings.redis) as client,
        psycopg.connect(servers.settings.database, autocommit=True) as connection,
    ):
        patch.setenv("SPILLWAY_REDIS_URL", servers.settings.redis)
        patch.setenv("SPILLWAY_DATABASE_URL", servers.settings.database)
        settings.cache_clear()
        forget(client, connection)
        for number, case in enumerate([*BAD, *ODD]):
            produce(client, number, (BAD[case] if case in BAD else ODD[case]).fields)
        with contextlib.suppress(Terminal):
            drain("case-*")
        yield connection
        forget(client, connection)
        settings.cache_clear()


def forget(client: redis.Redis, connection: psycopg.Connection) -> None:
    client.flushdb()
    empty_tables(connection)


def produce(client: redis.Redis, number: int, fields: list[bytes]) -> None:
    """The stream of a case: good entries, and `fields` among them, in which a field may come twice."""
    good = [[part for pair in entry.items() for part in pair] for entry in good_entries(number)]
    for place, entry in enumerate([*good[:BEFORE], own(number, fields), *good[BEFORE:]]):
        client.execute_command("XADD", f"case-{number}", f"{place}-1", *entry)


def good_entries(number: int) -> list[dict[bytes, bytes]]:
    return [event(CASE * number + n) for n in range(20)]


def own(number: int, fields: list[bytes]) -> list[bytes]:
    """The fields with an id that no other case has."""
    usual, its = (event(n)[b"event_id"] for n in (OTHER, CASE * number + OTHER))
    return [part.replace(usual, its) for part in fields]


@pytest.fixture(scope="module")
def rows(drained: psycopg.Connection) -> dict[Key, Row]:
    """The table, read once: there are large documents in it."""
    return table_rows(drained)


def rows_of(rows: dict[Key, Row], number: int) -> dict[Key, Row]:
    """The rows of a case, by their ids."""
    return {key: row for key, row in rows.items() if UUID(key[0]).int // CASE == number}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_entry_is_kept_as_it_came_with_its_reason_and_all_others_are_loaded(
    servers: Servers, case: str, drained: psycopg.Connection, rows: dict[Key, Row]
) -> None:
    if case.startswith("absurd") and not servers.edition:
        pytest.skip("only the times of hypertables and partitioned tables have limits")
    number, bad = list(BAD).index(case), BAD[case]
    stream = f"case-{number}"
    assert ledger_sums(drained, stream) == (21, 20, 0, 1)
    assert ledger_is_whole(drained, stream)
    assert rows_of(rows, number) == flat_rows(good_entries(number))
    kept = drained.execute(
        "SELECT entry_id, fields, kind, field, reason, quarantined_at > first_seen AND quarantined_at < now()"
        "  FROM spillway.quarantine JOIN spillway.streams AS s ON s.id = stream WHERE s.name = %s",
        [stream],
    ).fetchall()
    assert len(kept) == 1
    entry_id, fields, kind, column, reason, on_time = kept[0]
    assert (entry_id, fields, kind, column) == (f"{BEFORE}-1", own(number, bad.fields), "refused", bad.column)
    assert bad.reason in reason
    assert on_time


@pytest.mark.parametrize("case", ODD)
def test_an_odd_entry_is_a_good_one(case: str, drained: psycopg.Connection, rows: dict[Key, Row]) -> None:
    number = len(BAD) + list(ODD).index(case)
    assert ledger_sums(drained, f"case-{number}") == (21, 21, 0, 0)
    (_, time), *_ = flat_rows([event(OTHER)])
    key = (str(UUID(int=CASE * number + OTHER)), time)
    assert rows_of(rows, number) == flat_rows(good_entries(number)) | {key: ODD[case].row}
