"""Rows of a mapping fit into a table, or every reason why not is reported with its fix. No server is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infra.mapping.column_source import ColumnSource, key_source
from infra.mapping.stream_mapping import StreamMapping
from infra.tables.table import Table, TableColumn, TableKind
from tasks.columns.row_layout import bind
from tasks.preflight.table_fit import identity_notes, table_problems
from tests.support.events_layouts import ANY, EVENTS

WEATHER = Table(
    "shop",
    "Weather",
    TableKind.PLAIN,
    (
        TableColumn("origin", "text", "text", nullable=False),
        TableColumn("at", "timestamp with time zone", "timestamptz", nullable=False),
        TableColumn("temp", "real", "float4"),
        TableColumn("fahrenheit", "real", "float4", nullable=False, generated=True),
        TableColumn("n", "bigint", "int8", nullable=False, generated=True),
    ),
    keys=(("origin", "at"),),
)


def mapped(**columns: ColumnSource) -> StreamMapping:
    return StreamMapping("weather*", 'shop."Weather"', columns)


def with_column(table: Table, column: TableColumn) -> Table:
    return replace(table, columns=(*table.columns, column))


TENANT = TableColumn("tenant", "text", "text", nullable=False)


def test_a_table_needs_no_mapping() -> None:
    """Each column is read from the key of its name; generated columns are not filled."""
    layout = bind(mapped(), WEATHER)
    assert table_problems(layout) == []
    assert identity_notes([layout]) == []
    assert layout.names == ("origin", "at", "temp")


@pytest.mark.parametrize("name", ["fahrenheit", "n"])
def test_a_generated_column_that_the_mapping_names_is_reported(name: str) -> None:
    """The server would refuse every row."""
    (problem,) = table_problems(bind(mapped(**{name: key_source("x")}), WEATHER))
    assert problem == (
        f'spillway.toml: streams."weather*" names the column "{name}", which the server generates, so no value can be'
        " inserted: remove it from the mapping"
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("tmep", 'did you mean "temp"?'),
        ("humidity", 'it has "origin", "at", "temp", "fahrenheit", "n"'),
    ],
)
def test_a_column_that_the_table_does_not_have_is_reported_with_those_that_may_be_meant(name: str, meant: str) -> None:
    """Also after a column was renamed or dropped."""
    (problem,) = table_problems(bind(mapped(**{name: key_source("x")}), WEATHER))
    assert problem.endswith(f'names the column "{name}", which the table does not have; {meant}')


def test_a_required_column_of_events_without_a_source_is_reported() -> None:
    """Unless the mapping names it, it has a default, or a trigger may set it."""
    table = with_column(EVENTS, TENANT)
    (problem,) = table_problems(bind(None, table))
    assert problem == (
        'the column "tenant" is NOT NULL and has no default: ALTER TABLE "public"."events" ALTER COLUMN "tenant" SET'
        " DEFAULT …, or name its source in spillway.toml"
    )
    assert table_problems(bind(StreamMapping("x", None, {"tenant": key_source("shop")}), table)) == []
    assert table_problems(bind(None, with_column(EVENTS, replace(TENANT, default="'a'")))) == []
    assert table_problems(bind(None, with_column(EVENTS, replace(TENANT, set_by_trigger=True)))) == []


def test_a_required_column_that_an_archive_does_not_have_is_reported() -> None:
    """The mapping file cannot help here."""
    columns = tuple(column.name for column in EVENTS.columns)
    table = with_column(EVENTS, TENANT)
    (problem,) = table_problems(bind(None, table, columns))
    assert problem.endswith('ALTER COLUMN "tenant" SET DEFAULT …')
    assert table_problems(bind(None, table, (*columns, "tenant"))) == []


def test_events_is_a_hypertable_only_with_timescaledb() -> None:
    """Without it, the schema makes a plain table. A user may make a partitioned one anywhere."""
    plain = bind(None, replace(EVENTS, kind=TableKind.PLAIN, time=None))
    assert table_problems(ANY) == []
    assert "it is not a hypertable" in table_problems(plain)[0]
    assert table_problems(plain, with_timescaledb=False) == []
    assert table_problems(bind(None, replace(EVENTS, kind=TableKind.PARTITIONED))) == []


def test_a_table_that_the_mapping_names_needs_none_of_the_columns_of_events() -> None:
    """Even if it is called events."""
    table = replace(WEATHER, name="events")
    assert table_problems(bind(StreamMapping("x", "shop.events"), table)) == []


def test_a_column_that_a_mapping_with_routes_names_is_in_one_of_the_tables() -> None:
    """Rows of the other tables do not fill it."""
    layout = bind(mapped(tenant=key_source("x")), WEATHER)
    assert len(table_problems(layout, tables=(WEATHER, EVENTS))) == 1
    assert table_problems(layout, tables=(WEATHER, with_column(EVENTS, TENANT))) == []


NOTES = {
    "no key": ((), "it has no unique key that ON CONFLICT can use"),
    "a key that is not filled": ((("n",), ("origin", "n")), "its unique keys (n) and (origin, n) have columns that"),
    "a key with nulls": ((("temp",),), 'rows with a null in "temp" are never duplicates'),
}


@pytest.mark.parametrize(("keys", "note"), NOTES.values(), ids=NOTES)
def test_a_table_without_a_usable_key_is_no_problem_but_noted(keys: tuple[tuple[str, ...], ...], note: str) -> None:
    """The ledger alone guarantees that each entry is loaded once."""
    layout = bind(mapped(), replace(WEATHER, keys=keys))
    assert table_problems(layout) == []
    (found,) = identity_notes([layout, layout])
    assert found.startswith(f'"shop"."Weather": {note}')
