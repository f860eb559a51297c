"""The bytes that each type sends, read by psycopg's own readers, and the texts that it sends instead."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from psycopg.adapt import Transformer
from psycopg.pq import Format

from infra.epoch import POSTGRES_EPOCH_US
from tasks.columns.types.registry import type_of
from tests.support.small_layouts import column
from tests.support.type_cases import CASES, TypeCase, column_of
from tests.support.type_server import SOURCE

DAY_US = 86_400_000_000
ID = "0123abcd-4567-89ab-cdef-0123456789ab"
_OIDS = psycopg.adapters.types
_OWN_BYTES = ("text", "varchar", "bytea", "json", "jsonb", "macaddr")  # psycopg reads these only with a connection


def oid_of(case: TypeCase) -> int | None:
    """The number of the type in pg_type, if psycopg knows it. A value with a modifier or a domain may change."""
    base = case.column.base
    found = _OIDS.get(base.removeprefix("_"))
    if found is None or case.column.constrained or base.removeprefix("_") in _OWN_BYTES:
        return None
    return found.array_oid if base.startswith("_") else found.oid


READABLE = [case for case in CASES if case.binary and case.value is not None and oid_of(case)]


def sent(kind: str, texts: Sequence[str | None]) -> list[bytes]:
    """The bytes of each value in a binary COPY. What a null has is unspecified."""
    found = type_of(column_of(kind))
    encoded = found.encode(found.parse(pa.array(texts, pa.string()), SOURCE).values)
    rows = [row.tobytes() for row in encoded] if isinstance(encoded, np.ndarray) else encoded.to_pylist()
    return [found.prefix + row for row in rows]


def as_text(kind: str, texts: Sequence[str | None]) -> list[str | None]:
    found = type_of(column_of(kind))
    values = found.to_text(found.parse(pa.array(texts, pa.string()), SOURCE).values)
    return list(values.cast(pa.string()).to_pylist())


def load(oid: int, data: bytes, form: Format) -> Any:
    try:
        return Transformer().get_loader(oid, form).load(data)
    except psycopg.DataError as error:  # a time that Python does not have
        return type(error)


@pytest.mark.parametrize("case", READABLE, ids=lambda case: f"{case.kind}: {case.text!a:.40}")
def test_the_bytes_of_a_value_are_those_of_the_value_that_the_server_shows(case: TypeCase) -> None:
    oid = oid_of(case)
    assert oid is not None
    assert case.value is not None
    expected = load(oid, case.value.encode(), Format.TEXT)
    for texts in ([case.text], [None, case.text, None], [case.text, case.text]):
        found = load(oid, sent(case.kind, texts)[len(texts) // 2], Format.BINARY)
        if case.kind == "real":
            expected = struct.unpack("f", struct.pack("f", expected))[0]
        assert repr(found) == repr(expected), "also NaN, the sign of a zero, and the digits of a numeric"


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("infinity", 2**63 - 1),
        (" -Infinity ", -(2**63)),
        ("-99999999999999", -99_999_999_999_999_000 - POSTGRES_EPOCH_US),
        ("999999999999999999", 999_999_999_999_999_999 - POSTGRES_EPOCH_US),
        ("2000-01-01", 0),
        ("2000-01-01T00:00:00.000001Z", 1),
    ],
)
@pytest.mark.parametrize("kind", ["timestamp with time zone", "timestamp without time zone"])
def test_times_are_microseconds_since_2000(kind: str, text: str, micros: int) -> None:
    for texts in ([text], ["2024-01-01", text], [None, text], [text, "2024-01-01", "infinity", "-infinity"]):
        assert struct.unpack("!q", sent(kind, texts)[texts.index(text)]) == (micros,)
    if text == "infinity":
        assert sent(kind, [None, "2000-01-01", text])[1:] == [bytes(8), struct.pack("!q", micros)]


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("infinity", 2**31 - 1),
        ("-infinity", -(2**31)),
        ("2000-01-02", 1),
        ("1999-12-31", -1),
        ("-99999964800000", -1_157_407 - POSTGRES_EPOCH_US // DAY_US),
    ],
)
def test_dates_are_days_since_2000(text: str, days: int) -> None:
    for texts in ([text], ["2024-01-01", text], [None, text], [text, "2024-01-01", "infinity", "-infinity"]):
        assert struct.unpack("!i", sent("date", texts)[texts.index(text)]) == (days,)


@pytest.mark.parametrize(
    ("text", "head", "digits"),
    [
        ("0", (1, 0, 0, 0), [0]),
        ("9999", (1, 0, 0, 0), [9999]),
        ("10000", (2, 1, 0, 0), [1, 0]),
        ("-1.5", (2, 0, 0x4000, 1), [1, 5000]),
        ("-0.0001", (2, 0, 0x4000, 4), [0, 1]),
        ("0.00001", (3, 0, 0, 5), [0, 0, 1000]),
        ("123456789.25", (4, 2, 0, 2), [1, 2345, 6789, 2500]),
        ("123456789012345678", (5, 4, 0, 0), [12, 3456, 7890, 1234, 5678]),
    ],
)
def test_a_numeric_has_no_more_digits_to_the_base_10000_than_it_needs(
    text: str, head: tuple[int, ...], digits: list[int]
) -> None:
    assert sent("numeric", [text]) == [struct.pack(f"!hhHh{len(digits)}h", *head, *digits)]
    assert sent("numeric", [text, None])[0] == sent("numeric", [text])[0]


def test_a_number_of_19_characters_may_be_too_large_and_is_left_to_the_server() -> None:
    kind = type_of(column_of("numeric"))
    for text, understood in (("9" * 18, True), ("9" * 19, False), ("1" * 19, False), ("0." + "1" * 16, True)):
        assert (kind.parse(pa.array([text]), SOURCE).values.type == kind.arrow) == understood
    assert sent("numeric", []) == []


def test_addresses_have_family_bits_kind_length_and_bytes() -> None:
    assert sent("inet", ["10.0.0.1/8", "::1"]) == [
        bytes([2, 8, 0, 4, 10, 0, 0, 1]),
        bytes([3, 128, 0, 16, *bytes(15), 1]),
    ]
    assert sent("cidr", ["10.0.0.0/8", "10.0.0.1"]) == [
        bytes([2, 8, 1, 4, 10, 0, 0, 0]),
        bytes([2, 32, 1, 4, 10, 0, 0, 1]),
    ]
    assert sent("macaddr", ["08:00:2b:01:02:03", "FF:fe:00:00:00:A0"]) == [
        bytes([8, 0, 43, 1, 2, 3]),
        bytes([255, 254, 0, 0, 0, 160]),
    ]


def test_texts_are_their_own_bytes_and_jsonb_begins_with_its_version() -> None:
    assert sent("text", ["né", ""]) == ["né".encode(), b""]
    assert sent("jsonb", ['{"a": 1.50}']) == [b'\x01{"a": 1.50}']
    assert sent("json", ['{"a": 1.50}']) == [b'{"a": 1.50}']
    assert sent("mood", ["so happy"]) == [b"so happy"]


def test_arrays_have_a_head_and_each_element_its_length() -> None:
    head = struct.pack("!iiIii", 1, 1, 23, 2, 1)
    assert sent("integer[]", ["[5, null]", "[]", "{-1}"]) == [
        head + struct.pack("!iii", 4, 5, -1),
        struct.pack("!iiI", 0, 0, 23),
        struct.pack("!iiIiiii", 1, 0, 23, 1, 1, 4, -1),
    ]
    assert sent("text[]", ['["é", ""]', '["a", null]']) == [
        struct.pack("!iiIii", 1, 0, 25, 2, 1) + b"\0\0\0\2\xc3\xa9\0\0\0\0",
        struct.pack("!iiIii", 1, 1, 25, 2, 1) + b"\0\0\0\1a\xff\xff\xff\xff",
    ]
    assert sent("jsonb[]", ["[{}]"]) == [struct.pack("!iiIiii", 1, 0, 3802, 1, 1, 3) + b"\x01{}"]


_WITH_ARRAYS = [
    *("boolean", "smallint", "integer", "bigint", "real", "double precision", "numeric", "text", "character varying"),
    *("character", "json", "jsonb", "bytea", "uuid", "inet", "cidr", "macaddr", "date", "time without time zone"),
    *("timestamp with time zone", "timestamp without time zone"),
]


@pytest.mark.parametrize("kind", _WITH_ARRAYS)
def test_an_array_says_the_number_of_the_type_of_its_elements(kind: str) -> None:
    assert sent(f"{kind}[]", ["[]"]) == [struct.pack("!iiI", 0, 0, _OIDS[column_of(kind).base].oid)]


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("boolean", {"T": "true", "off": "false"}),
        ("bigint", {"007": "7", "-1": "-1"}),
        ("real", {"0.1": "0.1", "NaN": "nan"}),
        ("double precision", {"1e5": "100000", "0.1": "0.1"}),
        ("numeric", {"1.50": "1.50", "-0": "-0"}),
        ("text", {"a\\b": "a\\b", "": ""}),
        ("bytea", {"\\x00fF": "\\x00ff", "\\x": "\\x"}),
        ("uuid", {ID.upper(): ID.replace("-", "")}),
        ("inet", {"10.0.0.1/8": "10.0.0.1/8"}),
        ("macaddr", {"FF:fe:00:00:00:A0": "fffe000000a0", "08:00:2b:01:02:03": "08002b010203"}),
        ("time without time zone", {"12:34": "12:34:00.000000", "23:59:59.5": "23:59:59.500000"}),
        (
            "timestamp with time zone",
            {
                "2024-02-29T12:34:56+02:00": "2024-02-29T10:34:56Z",
                "infinity": "infinity",
                "-infinity": "-infinity",
                "-99999999999999": "1200-02-15 14:13:20.001Z BC",
                "0001-01-01": "0001-01-01T00:00:00Z",
                "-62135596801000": "0001-12-31 23:59:59Z BC",
                "99999999999999999": "5138-11-16T09:46:39.999999Z",
                "999999999999999999": "33658-09-27T01:46:39.999999Z",
            },
        ),
        (
            "date",
            {
                "2024-02-29": "2024-02-29",
                "infinity": "infinity",
                "-infinity": "-infinity",
                "-99999964800000": "1200-02-16 BC",
                "-62135683200000": "0001-12-31 BC",
                "9999-12-31": "9999-12-31",
                "864000000000000000": "29349-01-26",
            },
        ),
        ("integer[]", {"[5, null]": "{5,NULL}", "[]": "{}"}),
        ("text[]", {'["a b", "NULL", "q\\"", "é", null]': '{"a b","NULL","q\\"","é",NULL}', "[]": "{}"}),
        ("date[]", {'["2024-02-29"]': "{2024-02-29}"}),
    ],
)
def test_the_text_of_a_value_is_the_same_value_and_nulls_stay(kind: str, texts: dict[str, str]) -> None:
    assert as_text(kind, [None, *texts, None]) == [None, *texts.values(), None]
    assert as_text(kind, list(texts)) == list(texts.values())
    for text, value in texts.items():
        assert as_text(kind, [text]) == [value]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("boolean", "a boolean, such as true or false"),
        ("smallint", "an integer from -32768 to 32767"),
        ("integer", "an integer from -2147483648 to 2147483647"),
        ("bigint", "an integer from -9223372036854775808 to 9223372036854775807"),
        ("date", "an ISO 8601 date, or a time at midnight"),
        ("interval", "a value of interval"),
        ("mood", "a value of mood"),
        ("integer[]", "a JSON array or an array literal, of integer[]"),
    ],
)
def test_a_message_says_what_a_type_expects(kind: str, expected: str) -> None:
    assert type_of(column("c", kind)).expected == expected


@pytest.mark.parametrize(
    ("kind", "width", "exact"),
    [
        ("boolean", 1, True),
        ("smallint", 2, True),
        ("integer", 4, True),
        ("bigint", 8, True),
        ("real", 4, False),
        ("double precision", 8, False),
        ("numeric", None, False),
        ("text", None, True),
        ("character(3)", None, False),
        ("jsonb", None, False),
        ("bytea", None, True),
        ("uuid", 16, True),
        ("date", 4, True),
        ("inet", None, False),
        ("timestamp with time zone", 8, True),
        ("timestamp without time zone", 8, True),
        ("macaddr", 6, True),
        ("time without time zone", 8, True),
        ("mood", None, True),
        ("positive", 4, False),
        ("text[]", None, False),
    ],
)
def test_a_key_is_compared_here_only_if_equal_bytes_are_equal_values(kind: str, width: int | None, exact: bool) -> None:
    assert (type_of(column_of(kind)).width, type_of(column_of(kind)).exact) == (width, exact)


def test_arrays_of_types_that_are_judged_here_are_judged_here() -> None:
    kinds = ["date", "timestamp without time zone", "timestamp with time zone", "uuid", "integer", "text", "jsonb"]
    judged = [getattr(type_of(column_of(f"{kind}[]")), "judged", None) for kind in kinds]
    assert judged == [True] * 4 + [False] * 3
