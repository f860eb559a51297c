"""Rows of all types in both formats of COPY, read back from a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg
import pyarrow as pa
import pytest

from tasks.columns.encode_rows import HEADER, TRAILER, encode_binary, encode_text, needs_text, payload
from tasks.columns.types.registry import type_of
from tests.support.servers import Servers
from tests.support.type_cases import BINARY_TEXTS, column_of
from tests.support.type_server import SOURCE, prepare

TABLES = ("binary_rows", "text_rows")


@pytest.fixture(scope="module")
def session(servers: Servers) -> Iterator[psycopg.Connection]:
    with psycopg.connect(servers.settings.database, autocommit=True) as connection:
        prepare(connection)
        columns = ", ".join(f"c{number} {name}" for number, name in enumerate(BINARY_TEXTS))
        for table in ("binary_rows", "text_rows"):
            connection.execute(f"CREATE TEMP TABLE {table} (n serial, {columns})".encode())
        yield connection


@pytest.mark.parametrize("shift", range(3))
def test_a_table_of_all_types_holds_the_same_rows_from_both_formats(session: psycopg.Connection, shift: int) -> None:
    n = max(map(len, BINARY_TEXTS.values()))
    types = [type_of(column_of(name)) for name in BINARY_TEXTS]
    columns = []
    for number, (name, kind) in enumerate(zip(BINARY_TEXTS, types, strict=True)):
        texts = [BINARY_TEXTS[name][(row + number) % len(BINARY_TEXTS[name])] for row in range(n)]
        nulls = [shift and (row + number) % (shift + 1) == 0 for row in range(n)]
        values = [None if null else text for null, text in zip(nulls, texts, strict=True)]
        columns.append(kind.parse(pa.array(values, pa.string()), SOURCE).values)
    rows = pa.RecordBatch.from_arrays(columns, names=[f"c{number}" for number in range(len(types))])
    assert not needs_text(rows, types)
    copy(session, "binary_rows", rows.schema.names, HEADER, payload(encode_binary(rows, types)), TRAILER)
    copy(session, "text_rows", rows.schema.names, payload(encode_text(rows, types)))
    shown = ", ".join(f"format('%s', c{number})" for number in range(len(types)))
    held = [session.execute(f"SELECT {shown} FROM {table} ORDER BY n".encode()).fetchall() for table in TABLES]
    assert len(held[0]) == n
    assert held[0] == held[1]
    for table in TABLES:
        session.execute(f"TRUNCATE {table}".encode())


def copy(connection: psycopg.Connection, table: str, columns: Sequence[str], *parts: bytes | memoryview) -> None:
    form = "BINARY" if len(parts) > 1 else "TEXT"
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT {form})"
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as out:
        for part in parts:
            out.write(part)
