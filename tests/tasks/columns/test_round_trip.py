"""Random Arrow columns through `encode`, a binary COPY and a real table, and back: nothing lost, changed or moved.

`test_encode.py` makes its columns from rows. Here they have the forms that Arrow gives them (slices, concatenations,
nulls with bytes beneath), and what the table holds is compared in two ways: as values, and as the bytes that the server
itself writes for them in a COPY TO.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.columns.decode import DecodedRows
from tasks.columns.encode_rows import HEADER, TRAILER, payload
from tests.support.copied_rows import EARLIEST_US, copy_rows, rows_held
from tests.support.encoded_events import COLUMNS, columns_of, encode, rows_of
from tests.support.servers import Servers
from tests.support.strategies import DOCUMENT, TEXT

# timestamptz goes on for another 29 years. Of 2**63 - 1 itself the server's extract(epoch) shows only 17 digits.
LATEST = 2**63 - 2
BESIDE = b"Zz\xc3\xbf"  # around a slice or beneath a null: never to be seen in the table


@pytest.fixture(scope="module")
def table(servers: Servers) -> Iterator[psycopg.Connection]:
    """A plain table like `events`: extreme times make no chunks there."""
    with psycopg.connect(servers.settings.database, autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE rows (LIKE events)")
        yield connection


TIME = st.integers(EARLIEST_US, LATEST) | st.sampled_from(
    [EARLIEST_US, LATEST, -1, 0, 946_684_799_999_999, 946_684_800_000_000]
)
UUID = st.binary(min_size=16, max_size=16) | st.sampled_from([bytes(16), b"\xff" * 16])


def plain(values: pa.Array, _: int) -> pa.Array:
    return values


def beside(values: pa.Array) -> pa.Array:
    """One value of the same type."""
    if pa.types.is_timestamp(values.type):
        return pa.array([LATEST - 7], values.type)
    return pa.array([BESIDE * 4 if pa.types.is_fixed_size_binary(values.type) else BESIDE], values.type)


def sliced(values: pa.Array, cut: int) -> pa.Array:
    around = [beside(values), pa.nulls(1, values.type)] * (cut + 1)
    return pa.concat_arrays([*around, values, *around])[len(around) : len(around) + len(values)]


def concatenated(values: pa.Array, cut: int) -> pa.Array:
    return pa.concat_arrays([values[:cut], values[:0], sliced(values[cut:], cut)])


def taken(values: pa.Array, cut: int) -> pa.Array:
    there = pa.concat_arrays([values[cut:], beside(values), values[:cut]])
    after = len(values) - cut
    return there.take(pa.array([*range(after + 1, len(values) + 1), *range(after)], pa.int64()))


def with_bytes_beneath(values: pa.Array, cut: int) -> pa.Array:
    """Arrow leaves open what a null slot holds."""
    beneath = values.fill_null(beside(values)[0])
    valid = pa.array(values.is_valid().to_pylist(), pa.bool_())
    return pa.Array.from_buffers(values.type, len(values), [valid.buffers()[1], *beneath.buffers()[1:]])


Form = Callable[[pa.Array, int], pa.Array]
FORMS: list[Form] = [plain, sliced, concatenated, taken, with_bytes_beneath]


Row = tuple[int, bytes, bytes, bytes, bytes | None]
ROW = st.tuples(TIME, UUID, TEXT.map(str.encode), TEXT.map(str.encode), st.none() | DOCUMENT.map(str.encode))


@st.composite
def any_batch(draw: st.DrawFn) -> tuple[list[Row], DecodedRows]:
    """Rows, and the same as the columns of a batch."""
    rows = draw(st.lists(ROW, max_size=8) | st.lists(ROW, min_size=1, max_size=1))
    return rows, batch_of(rows, [draw(st.sampled_from(FORMS)) for _ in COLUMNS], draw(st.integers(0, len(rows))))


def batch_of(rows: list[Row], forms: list[Form], cut: int = 0) -> DecodedRows:
    return rows_of([form(column, cut) for form, column in zip(forms, columns_of(rows), strict=True)])


def as_server_reads(connection: psycopg.Connection, rows: list[Row]) -> list[str | None]:
    """What the server makes of each document where it is given as plain text: nothing of `encode` is in it."""
    documents = [None if row[4] is None else row[4].decode() for row in rows]
    query = "SELECT document::jsonb::text FROM unnest(%s::text[]) WITH ORDINALITY AS d (document, n) ORDER BY n"
    return [document for (document,) in connection.execute(query, [documents])]


def copied_out(connection: psycopg.Connection) -> bytes:
    with connection.cursor().copy(f"COPY rows ({', '.join(COLUMNS)}) TO STDOUT (FORMAT BINARY)") as out:
        return b"".join(out)


def exact(document: str | bytes | None) -> Any:
    """A document with every digit of its numbers."""
    return None if document is None else json.loads(document, parse_float=Decimal, parse_int=Decimal)


def check(connection: psycopg.Connection, rows: list[Row], events: DecodedRows, cut: int = 0) -> None:
    """Copy `events` in, in two pieces, and compare what the table then has with `rows`."""
    encoded = encode(events)
    assert len(encoded) == len(rows)
    assert copy_rows(connection, encoded[:cut], encoded[cut:]) == len(rows)
    found = rows_held(connection)
    assert [(row[0], row[1].bytes, row[2].encode(), row[3].encode()) for row in found] == [row[:4] for row in rows]
    assert [row[4] for row in found] == as_server_reads(connection, rows)
    assert [exact(row[4]) for row in found] == [exact(row[4]) for row in rows]
    # The server writes jsonb as it has normalised it; of documents in that form every byte is as it would write it.
    documents = [None if row[4] is None else row[4].encode() for row in found]
    normal = [(*row[:4], document) for row, document in zip(rows, documents, strict=True)]
    as_server_writes = HEADER + bytes(payload(encode(batch_of(normal, [plain] * 5)))) + TRAILER
    assert copied_out(connection) == as_server_writes


@settings(max_examples=400)
@given(batch=any_batch(), data=st.data())
def test_any_arrow_columns_come_back_as_they_were(
    table: psycopg.Connection, batch: tuple[list[Row], DecodedRows], data: st.DataObject
) -> None:
    rows, events = batch
    check(table, rows, events, data.draw(st.integers(0, len(rows))))


LARGE = [
    '{"text": "' + "\u05e9\U0001f600e\u0301" * 120_000 + '"}',
    '{"numbers": [' + ", ".join(f"{n}.{n:040}" for n in range(22_000)) + "]}",
    '{"nested": ' + '{"a": [' * 200 + '"' + "x" * 1_000_000 + '"' + "]}" * 200 + "}",
]


@pytest.mark.parametrize("form", FORMS)
def test_documents_of_a_megabyte_come_back_from_between_small_ones(table: psycopg.Connection, form: Form) -> None:
    documents = ["{}", LARGE[0], None, LARGE[1], '""', LARGE[2], None]
    assert all(len(text.encode()) > 1_000_000 for text in LARGE)
    rows: list[Row] = [
        (n, n.to_bytes(16, "big"), b"", b"", None if document is None else document.encode())
        for n, document in enumerate(documents)
    ]
    check(table, rows, batch_of(rows, [form] * 5, 3), 4)


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_without_rows_is_no_bytes(table: psycopg.Connection, form: Form) -> None:
    check(table, [], batch_of([], [form] * 5))
