"""Put texts into a column of any type in every way that there is, and read what the table then holds."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
import pyarrow as pa
from psycopg import sql

from infra.mapping.column_source import ColumnSource
from tasks.columns.encode_rows import HEADER, TRAILER, encode_binary, encode_text, payload
from tasks.columns.types.column_type import ColumnType
from tests.support.type_cases import CREATE_TYPES

SOURCE = ColumnSource()


def prepare(connection: psycopg.Connection) -> None:
    """Create the types of the cases, and fix how the server writes values."""
    connection.execute(CREATE_TYPES.encode())
    connection.execute("SET timezone = 'UTC'")
    connection.execute("SET datestyle = 'ISO, MDY'")
    connection.execute("SET intervalstyle = 'postgres'")
    connection.execute("SET lc_monetary = 'en_US.UTF-8'" if _has_dollars(connection) else "SELECT 1")


def _has_dollars(connection: psycopg.Connection) -> bool:
    query = "SELECT EXISTS (SELECT FROM pg_collation WHERE collname ILIKE 'en_US.utf%8')"
    return connection.execute(query).fetchone() == (True,)


class TypeTable:
    """A temporary table with a column `c` of one type."""

    def __init__(self, connection: psycopg.Connection, kind: str) -> None:
        self._connection = connection
        connection.execute("DROP TABLE IF EXISTS pg_temp.one_column")
        connection.execute(f"CREATE TEMP TABLE one_column (n int GENERATED ALWAYS AS IDENTITY, c {kind})".encode())

    def insert(self, text: str) -> list[str | None] | None:
        """By INSERT of a literal. Returns what the table holds, None if the server refuses it."""
        statement = sql.SQL("INSERT INTO one_column (c) VALUES ({})").format(sql.Literal(text))
        try:
            self._connection.execute(statement)
        except (psycopg.DataError, psycopg.IntegrityError):
            return None
        return self.take()

    def copy(self, values: pa.Array, kind: ColumnType, binary: bool) -> list[str | None] | None:
        """By a COPY of values of `kind.arrow`, or of texts. Returns what the table holds, None if it is refused."""
        rows = pa.RecordBatch.from_arrays([values], names=["c"])
        encoded = encode_binary(rows, [kind]) if binary else encode_text(rows, [kind])
        form = sql.SQL("BINARY" if binary else "TEXT")
        try:
            with (
                self._connection.cursor() as cursor,
                cursor.copy(sql.SQL("COPY one_column (c) FROM STDIN (FORMAT {})").format(form)) as copy,
            ):
                if binary:
                    copy.write(HEADER)
                copy.write(payload(encoded))
                if binary:
                    copy.write(TRAILER)
        except (psycopg.DataError, psycopg.IntegrityError):
            return None
        return self.take()

    def take(self) -> list[str | None]:
        """What the table holds, as the server writes it, in order; the table is empty afterwards."""
        query = "SELECT CASE WHEN c IS NOT NULL THEN format('%s', c) END FROM one_column ORDER BY n"
        found = [value for (value,) in self._connection.execute(query)]
        self._connection.execute("DELETE FROM one_column")
        return found


def insert_each(connection: psycopg.Connection, texts: Sequence[str]) -> list[str | None]:
    """What a column holds after an INSERT of each text alone; None if the server refuses it. One command for all."""
    connection.execute(
        b"""CREATE OR REPLACE FUNCTION pg_temp.insert_each(texts text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
            DECLARE value text; given text; held one_column.c%TYPE; BEGIN
            FOREACH given IN ARRAY texts LOOP
                BEGIN
                    EXECUTE format('INSERT INTO one_column (c) VALUES (%L) RETURNING c', given) INTO held;
                    value := format('%s', held);
                    DELETE FROM one_column;
                EXCEPTION WHEN data_exception OR integrity_constraint_violation THEN value := NULL; END;
                RETURN NEXT value;
            END LOOP; END $$"""
    )
    return [value for (value,) in connection.execute("SELECT pg_temp.insert_each(%s::text[])", [list(texts)])]
