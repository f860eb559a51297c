"""How the values of a column are archived: the types in the files, and the select list that reads them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tasks.columns.column_forms import (
    MOST_DIGITS,
    PG_TYPE,
    STANDARD_COLUMNS,
    Column,
    Form,
    form_of,
    schema_of,
    select_list,
)

# Object ids of PostgreSQL's types: https://www.postgresql.org/docs/current/datatype-oid.html
BOOL, BYTEA, INT8, INT2, INT4, TEXT, FLOAT4, FLOAT8 = 16, 17, 20, 21, 23, 25, 700, 701
DATE, TIMESTAMP, TIMESTAMPTZ, UUID, JSONB = 1082, 1114, 1184, 2950, 3802


@pytest.mark.parametrize(
    ("name", "arrow", "oid", "width"),
    [
        ("bool", pa.bool_(), BOOL, 1),
        ("int2", pa.int16(), INT2, 2),
        ("int4", pa.int32(), INT4, 4),
        ("int8", pa.int64(), INT8, 8),
        ("float4", pa.float32(), FLOAT4, 4),
        ("float8", pa.float64(), FLOAT8, 8),
        ("date", pa.date32(), DATE, 4),
        ("timestamp", pa.timestamp("us"), TIMESTAMP, 8),
        ("timestamptz", pa.timestamp("us", "UTC"), TIMESTAMPTZ, 8),
        ("uuid", pa.uuid(), UUID, 16),
        ("bytea", pa.binary(), BYTEA, None),
        ("jsonb", pa.string(), JSONB, None),
        ("text", pa.string(), TEXT, None),
    ],
)
def test_a_value_is_sent_in_the_type_that_its_form_names(
    name: str, arrow: pa.DataType, oid: int, width: int | None
) -> None:
    assert form_of(name) == Form(arrow, oid, width, f"{{c}}::pg_catalog.{name}")


def test_a_value_of_another_type_is_the_text_that_the_server_writes() -> None:
    form = form_of("as written")
    assert (form.arrow, form.oid, form.width) == (pa.string(), TEXT, None)


@pytest.mark.parametrize(
    ("name", "arrow"),
    [
        ("numeric(10,2)", pa.decimal128(10, 2)),
        ("numeric(1,0)", pa.decimal128(1, 0)),
        ("numeric(5,5)", pa.decimal128(5, 5)),
        ("numeric(38,0)", pa.decimal128(38, 0)),
        ("numeric(39,0)", pa.decimal256(39, 0)),
        ("numeric(76,76)", pa.decimal256(76, 76)),
    ],
)
def test_a_numeric_is_a_decimal_of_its_digits_and_is_sent_as_text(name: str, arrow: pa.DataType) -> None:
    assert form_of(name) == Form(arrow, TEXT, None, "{c}::pg_catalog.numeric::pg_catalog.text")


@pytest.mark.parametrize(
    "name", ["numeric(77,0)", "numeric(2,3)", "numeric", "numeric(2,1) ", "xnumeric(2,1)", "numeric(2,-1)", "int3", ""]
)
def test_an_unknown_form_is_a_lookup_error_with_its_name(name: str) -> None:
    with pytest.raises(LookupError) as unknown:
        form_of(name)
    assert unknown.value.args == (name,)


def test_the_most_digits_are_those_of_the_largest_decimal_of_arrow() -> None:
    assert pa.decimal256(MOST_DIGITS, 0).precision == MOST_DIGITS
    with pytest.raises(ValueError, match="precision"):
        pa.decimal256(MOST_DIGITS + 1, 0)


def test_the_files_of_a_table_without_extra_columns_have_the_types_of_schema_sql() -> None:
    schema = schema_of(STANDARD_COLUMNS)
    assert schema.equals(
        pa.schema(
            [
                pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
                pa.field("event_id", pa.uuid(), nullable=False),
                pa.field("event_type", pa.string(), nullable=False),
                pa.field("user_id", pa.string(), nullable=False),
                pa.field("properties", pa.string(), nullable=True),
            ]
        ),
        check_metadata=True,
    )
    assert [field.metadata for field in schema] == [None] * 5
    assert [column.type for column in STANDARD_COLUMNS] == ["timestamp with time zone", "uuid", "text", "text", "jsonb"]
    assert not any(column.generated for column in STANDARD_COLUMNS)


def test_with_an_extra_column_every_column_of_a_file_names_its_type_in_postgresql() -> None:
    schema = schema_of((*STANDARD_COLUMNS, Column("price", "numeric(10,2)", "numeric(10,2)")))
    assert [field.metadata for field in schema] == [
        {PG_TYPE: name} for name in (b"timestamp with time zone", b"uuid", b"text", b"text", b"jsonb", b"numeric(10,2)")
    ]
    assert [field.nullable for field in schema] == [False] * 4 + [True] * 2
    assert PG_TYPE == b"postgresql_type", "the files of an archive have this key"


def test_the_select_list_casts_each_column_of_the_table_to_its_form() -> None:
    columns = (Column("a b", "text", "text"), Column('50%"', "integer", "int4"), Column("ip", "inet", "as written"))
    assert select_list(columns, "chunk").as_string(None) == (
        '"chunk"."a b"::pg_catalog.text, "chunk"."50%%"""::pg_catalog.int4, '
        """CASE pg_catalog.num_nulls("chunk"."ip") WHEN 0 THEN pg_catalog.format('%%s', "chunk"."ip") END"""
    )
    assert select_list((), "chunk").as_string(None) == ""


def test_only_the_columns_of_events_have_no_metadata() -> None:
    for columns in (STANDARD_COLUMNS[:3], STANDARD_COLUMNS[::-1], (*STANDARD_COLUMNS, Column("n", "integer", "int4"))):
        assert all(field.metadata for field in schema_of(columns))
    assert not any(field.metadata for field in schema_of(list(STANDARD_COLUMNS)))
