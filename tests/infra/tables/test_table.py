"""What a table of the catalog is called, and which of its columns need a value; and statements about any table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from psycopg import sql

from infra.tables.statements import as_written, micros_of, parameter_safe
from infra.tables.table import Table, TableColumn, TableKind
from infra.tables.time_sql import moment, moment_of, time_bound, time_column, time_value

C = TableColumn("c", "text", "text")
TABLE = Table("Sh%op", 'we"at', TableKind.PLAIN, (C, TableColumn("a%t", "date", "date")), time="a%t")


def timed(base: str) -> Table:
    base = base.encode().decode()  # equal to the name in the program, not the same object
    return replace(TABLE, columns=(C, TableColumn("a%t", base, base)))


def text_of(part: sql.Composable) -> str:
    return part.as_string(None)


@pytest.mark.parametrize(
    ("changes", "required"),
    [
        ({}, False),
        ({"nullable": False}, True),
        ({"nullable": False, "default": "1"}, False),
        ({"nullable": False, "default": ""}, False),
        ({"nullable": False, "generated": True}, False),
        ({"nullable": False, "set_by_trigger": True}, False),
        ({"default": "1"}, False),
    ],
)
def test_a_column_needs_a_value_if_nothing_else_gives_it_one(changes: dict[str, Any], required: bool) -> None:
    assert replace(C, **changes).required == required


def test_a_column_and_a_table_are_plain_unless_the_catalog_says_otherwise() -> None:
    assert (C.constrained, C.generated, C.numbered, C.set_by_trigger) == (False,) * 4
    plain = Table("s", "t", TableKind.PLAIN, (C,))
    assert (plain.columnstore, plain.direct_compression) == (False, False)


def test_the_names_of_a_table() -> None:
    assert text_of(TABLE.identifier) == '"Sh%op"."we""at"'
    assert TABLE.regclass == '"Sh%op"."we""at"'
    assert text_of(TABLE.parameter_safe) == '"Sh%%op"."we""at"'
    assert TABLE.display_name == 'Sh%op.we"at'
    assert dict(TABLE.by_name) == {"c": C, "a%t": TABLE.columns[1]}


def test_names_and_values_are_safe_in_a_statement_with_parameters() -> None:
    assert text_of(parameter_safe(sql.Identifier("50%", 'a"b'))) == '"50%%"."a""b"'
    assert text_of(parameter_safe(sql.Literal("100% 'x'"))) == "'100%% ''x'''"


def test_expressions_of_any_table() -> None:
    written = "CASE pg_catalog.num_nulls(x) WHEN 0 THEN pg_catalog.format('%%s', x) END"
    assert text_of(as_written(sql.SQL("x"))) == written
    assert text_of(micros_of(sql.SQL("x"))) == "(extract(epoch FROM x) * 1000000)::bigint"


def test_the_time_column_has_the_alias_of_its_table_if_there_is_one() -> None:
    assert text_of(time_column(TABLE)) == '"a%%t"'
    assert text_of(time_column(TABLE, "t")) == '"t"."a%%t"'


@pytest.mark.parametrize(
    ("base", "as_moment", "bound", "value"),
    [
        ("timestamptz", '"t"."a%%t"', "%s::timestamptz", "%s::timestamptz"),
        (
            "timestamp",
            '("t"."a%%t" AT TIME ZONE \'UTC\')',
            "(%s::timestamptz AT TIME ZONE 'UTC')",
            "(%s::timestamptz AT TIME ZONE 'UTC')",
        ),
        (
            "date",
            '("t"."a%%t"::pg_catalog.timestamp AT TIME ZONE \'UTC\')',
            "(%s::timestamptz AT TIME ZONE 'UTC')",
            "(%s::timestamptz AT TIME ZONE 'UTC')::pg_catalog.date",
        ),
    ],
)
def test_the_time_of_a_row_is_compared_in_utc(base: str, as_moment: str, bound: str, value: str) -> None:
    assert text_of(moment(timed(base), "t")) == as_moment
    assert text_of(moment_of(timed(base), sql.SQL("x"))) == as_moment.replace('"t"."a%%t"', "x")
    assert text_of(time_bound(timed(base))) == bound
    assert text_of(time_value(timed(base))) == value
    assert text_of(time_bound(timed(base), "%(first)s")) == bound.replace("%s", "%(first)s")
    assert text_of(time_value(timed(base), "%(first)s")) == value.replace("%s", "%(first)s")
