"""The cases of `tests.support.type_cases` on a server: COPY in both formats holds what INSERT of the text holds."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pyarrow as pa
import pytest

from infra.tables.read_table import read_table
from tasks.columns.types.registry import type_of
from tests.support.servers import Servers
from tests.support.type_cases import CASES, TYPES, TypeCase, column_of
from tests.support.type_server import SOURCE, TypeTable, prepare

_JUDGED_BASES = ("timestamptz", "timestamp", "date", "uuid")


@pytest.fixture(scope="module")
def session(servers: Servers) -> Iterator[psycopg.Connection]:
    with psycopg.connect(servers.settings.database, autocommit=True) as connection:
        prepare(connection)
        yield connection


def _is_literal(case: TypeCase) -> bool:
    """Whether the server's own input function reads the text in the same way."""
    base = case.column.base
    if base.lstrip("_") in _JUDGED_BASES:
        return False
    return not base.startswith("_") or not case.text.lstrip().startswith(("[", '"'))


@pytest.mark.parametrize("name", TYPES)
def test_both_formats_hold_what_an_insert_of_the_text_holds(session: psycopg.Connection, name: str) -> None:
    table = TypeTable(session, name)
    for case in (case for case in CASES if case.kind == name and not case.judged):
        kind = type_of(case.column)
        expected = None if case.value is None else [case.value]
        if _is_literal(case):
            assert table.insert(case.text) == expected, ("INSERT", case)
        values = kind.parse(pa.array([case.text]), SOURCE).values
        assert table.copy(values, kind, binary=False) == expected, ("text", case)
        if case.binary:
            assert table.copy(values, kind, binary=True) == expected, ("binary", case)


@pytest.mark.parametrize("name", TYPES)
def test_all_values_of_a_type_are_copied_together_with_nulls(session: psycopg.Connection, name: str) -> None:
    table = TypeTable(session, name)
    for binary in (True, False):
        cases = [case for case in CASES if case.kind == name and case.value is not None and case.binary >= binary]
        kind = type_of(column_of(name))
        texts = [text for case in cases for text in (case.text, None)]
        values = kind.parse(pa.array([None, *texts], pa.string()), SOURCE).values
        expected = [None, *(value for case in cases for value in (case.value, None))]
        assert table.copy(values, kind, binary=values.type == kind.arrow) == expected
        part = values[1:]
        assert table.copy(part, kind, binary=values.type == kind.arrow) == expected[1:]


@pytest.mark.parametrize("name", TYPES)
def test_the_catalog_describes_the_column_like_the_cases(session: psycopg.Connection, name: str) -> None:
    session.execute("CREATE SCHEMA IF NOT EXISTS type_cases")
    session.execute("DROP TABLE IF EXISTS type_cases.one_column")
    session.execute(f"CREATE TABLE type_cases.one_column (c {name})".encode())
    try:
        assert read_table(session, "type_cases.one_column").columns == (column_of(name),)
    finally:
        session.execute("DROP SCHEMA type_cases CASCADE")
