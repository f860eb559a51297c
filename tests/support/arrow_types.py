"""Rows with every type that Parquet has, the columns of PostgreSQL that they belong in, and the JSON they are.

The expected values are written by hand: nothing here comes from Spillway or from pyarrow's conversions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from math import inf, nan
from typing import Any
from uuid import UUID

import pyarrow as pa


@dataclass(frozen=True)
class ArrowCase:
    """A column of a Parquet file with two values; a third row is null everywhere.

    `column`: the type of the table's column. `texts`: what the server writes for it. `members`: the values as members
    of a document; numbers are compared digit by digit.
    """

    arrow: pa.Array
    column: str
    texts: Sequence[str | None]
    members: Sequence[Any]


def _case(
    kind: pa.DataType, values: Sequence[Any], column: str, texts: Sequence[str], members: Sequence[Any]
) -> ArrowCase:
    return ArrowCase(pa.array([*values, None], kind), column, texts, members)


def _number(text: str) -> Decimal:
    return Decimal(text)


_AT = datetime(2024, 1, 2, 3, 4, 5, 678901)
_UUIDS = ["0190f1d2-0000-7000-8000-000000000001", "ffffffff-ffff-ffff-ffff-ffffffffffff"]
_RAW_UUIDS = [UUID(text).bytes for text in _UUIDS]
_DIGITS = "12345678901234567890123456789012345.678"
_WIDE = "1234567890123456789012345678901234567890123456789012345678901234567890.1234"


def _integers() -> dict[str, ArrowCase]:
    sizes = {
        "int8": ("smallint", 8),
        "int16": ("smallint", 16),
        "int32": ("integer", 32),
        "int64": ("bigint", 64),
    }
    found = {}
    for name, (column, bits) in sizes.items():
        ends = [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1]
        found[name] = _case(getattr(pa, name)(), ends, column, [str(n) for n in ends], [_number(str(n)) for n in ends])
    for bits, column in ((8, "smallint"), (16, "integer"), (32, "bigint"), (64, "numeric")):
        kind = getattr(pa, f"uint{bits}")()
        ends = [0, 2**bits - 1]
        found[f"uint{bits}"] = _case(kind, ends, column, [str(n) for n in ends], [_number(str(n)) for n in ends])
    return found


def _numbers() -> dict[str, ArrowCase]:
    d64 = [_number("0.1"), _number("1e+300")]
    return {
        **_integers(),
        "bool": _case(pa.bool_(), [True, False], "boolean", ["true", "false"], [True, False]),
        "float16": _case(pa.float16(), [1.5, -2.0], "real", ["1.5", "-2"], [_number("1.5"), _number("-2.0")]),
        "float32": _case(pa.float32(), [0.1, -1e30], "real", ["0.1", "-1e+30"], [_number("0.1"), _number("-1e+30")]),
        "float64": _case(pa.float64(), [0.1, 1e300], "double precision", ["0.1", "1e+300"], d64),
        "not finite": _case(pa.float64(), [nan, -inf], "double precision", ["NaN", "-Infinity"], ["NaN", "-Infinity"]),
        "decimal128": _case(pa.decimal128(38, 3), [Decimal(_DIGITS), Decimal("-0.001")], "numeric",
                            [_DIGITS, "-0.001"], [_number(_DIGITS), _number("-0.001")]),
        "decimal256": _case(pa.decimal256(76, 4), [Decimal(_WIDE), Decimal("5.10")], "numeric",
                            [_WIDE, "5.1000"], [_number(_WIDE), _number("5.1000")]),
    }  # fmt: skip


def _texts() -> dict[str, ArrowCase]:
    words = ["Zoë", 'a "b"\\ \n']
    documents, spaced = ['{"a": 1.50}', "[null]"], [{"a": _number("1.50")}, [None]]
    raw, spelled = [b"\x00\xff", b"abc"], ["\\x00ff", "\\x616263"]
    return {
        "string": _case(pa.string(), words, "text", words, words),
        "large_string": _case(pa.large_string(), words, "varchar(10)", words, words),
        "dictionary": ArrowCase(pa.array([*words, None]).dictionary_encode(), "text", words, words),
        "enum": _case(pa.string(), ["happy", "sad"], "users.mood", ["happy", "sad"], ["happy", "sad"]),
        "binary": _case(pa.binary(), raw, "bytea", spelled, spelled),
        "large_binary": _case(pa.large_binary(), raw, "bytea", spelled, spelled),
        "binary of 3": _case(pa.binary(3), [b"\x00\xffa", b"abc"], "bytea", ["\\x00ff61", "\\x616263"],
                             ["\\x00ff61", "\\x616263"]),
        "hash of 16": _case(pa.binary(16), _RAW_UUIDS, "bytea", [f"\\x{one.hex()}" for one in _RAW_UUIDS],
                            [f"\\x{one.hex()}" for one in _RAW_UUIDS]),
        "uuid of 16": _case(pa.binary(16), _RAW_UUIDS, "uuid", _UUIDS, _UUIDS),
        "uuid": _case(pa.uuid(), _RAW_UUIDS, "uuid", _UUIDS, _UUIDS),
        "json": _case(pa.json_(), documents, "jsonb", documents, spaced),
        "text of json": _case(pa.string(), documents, "jsonb", documents, documents),
        "network": _case(pa.string(), ["10.0.0.1", "::1"], "inet", ["10.0.0.1/32", "::1/128"], ["10.0.0.1", "::1"]),
    }  # fmt: skip


def _times() -> dict[str, ArrowCase]:
    found = {}
    for unit, digits in (("s", ""), ("ms", ".678"), ("us", ".678901"), ("ns", ".678901")):
        coarse = {"s": _AT.replace(microsecond=0), "ms": _AT.replace(microsecond=678000)}.get(unit, _AT)
        iso = [f"2024-01-02T03:04:05{digits}Z", "1969-12-31T23:59:59Z"]
        values = [coarse, datetime(1969, 12, 31, 23, 59, 59)]
        utc = [f"2024-01-02 03:04:05{digits}+00", "1969-12-31 23:59:59+00"]
        plain = [text.removesuffix("+00") for text in utc]
        found[f"timestamp {unit}"] = _case(pa.timestamp(unit), values, "timestamp", plain, iso)
        aware = [value.replace(tzinfo=UTC) for value in values]
        found[f"timestamptz {unit}"] = _case(pa.timestamp(unit, "America/New_York"), aware, "timestamptz", utc, iso)
    days, day_texts = [date(2024, 2, 29), date(1, 1, 1)], ["2024-02-29", "0001-01-01"]
    clocks, clock_texts = [time(3, 4, 5, 120000), time(23, 59, 59)], ["03:04:05.12", "23:59:59"]
    spans = [timedelta(days=400, seconds=1.5), timedelta(microseconds=-1)]
    span_texts, micros = ["9600:00:01.5", "-00:00:00.000001"], ["34560001500000 microseconds", "-1 microseconds"]
    return found | {
        "date32": _case(pa.date32(), days, "date", day_texts, day_texts),
        "date64": _case(pa.date64(), days, "date", day_texts, day_texts),
        "time32": _case(pa.time32("ms"), clocks, "time", clock_texts, ["03:04:05.120", "23:59:59"]),
        "time64 us": _case(pa.time64("us"), clocks, "time", clock_texts, ["03:04:05.120", "23:59:59"]),
        "time64 ns": _case(pa.time64("ns"), clocks, "time", clock_texts, ["03:04:05.120", "23:59:59"]),
        "duration": _case(pa.duration("us"), spans, "interval", span_texts, micros),
        "a day as json": _case(pa.date32(), days, "jsonb", [f'"{text}"' for text in day_texts], day_texts),
    }


def _nested() -> dict[str, ArrowCase]:
    pair = pa.struct({"n": pa.int64(), "s": pa.string(), "d": pa.decimal128(20, 2)})
    pairs = [{"n": 2**53 + 1, "s": None, "d": Decimal("5.10")}, {"n": None, "s": "x", "d": None}]
    read = [{"n": _number(str(2**53 + 1)), "s": None, "d": _number("5.10")}, {"n": None, "s": "x", "d": None}]
    written = ['{"d": 5.10, "n": 9007199254740993, "s": null}', '{"d": null, "n": null, "s": "x"}']
    words = [["a b", None, 'q"\\'], []]
    floats = [[0.1, nan, None], [inf]]
    named = [[_number("0.1"), "NaN", None], ["Infinity"]]
    numbers = [[_number("1"), None], [_number("-2")]]
    return {
        "list of int": _case(pa.list_(pa.int32()), [[1, None], [-2]], "integer[]", ["{1,NULL}", "{-2}"], numbers),
        "large list": _case(pa.large_list(pa.int32()), [[1, None], [-2]], "bigint[]", ["{1,NULL}", "{-2}"], numbers),
        "list of 2": _case(pa.list_(pa.int32(), 2), [[1, None], [-2, 0]], "numeric[]", ["{1,NULL}", "{-2,0}"],
                           [numbers[0], [_number("-2"), _number("0")]]),
        "list of text": _case(pa.list_(pa.string()), words, "text[]", ['{"a b",NULL,"q\\"\\\\"}', "{}"], words),
        "list of float": _case(pa.list_(pa.float64()), floats, "double precision[]", ["{0.1,NaN,NULL}", "{Infinity}"],
                               named),
        "list of float as json": _case(pa.list_(pa.float64()), floats, "jsonb", ['[0.1, "NaN", null]', '["Infinity"]'],
                                       named),
        "list of bytes": _case(pa.list_(pa.binary()), [[b"\xff", b"ff"], [b""]], "bytea[]",
                               ['{"\\\\xff","\\\\x6666"}', '{"\\\\x"}'], [["\\xff", "\\x6666"], ["\\x"]]),
        "list of spans": _case(pa.list_(pa.duration("ms")), [[timedelta(seconds=1)], []], "interval[]",
                               ["{00:00:01}", "{}"], [["1000000 microseconds"], []]),
        "list of times": _case(pa.list_(pa.timestamp("us", "UTC")), [[_AT.replace(tzinfo=UTC)], []], "timestamptz[]",
                               ['{"2024-01-02 03:04:05.678901+00"}', "{}"], [["2024-01-02T03:04:05.678901Z"], []]),
        "list of lists": _case(pa.list_(pa.list_(pa.int8())), [[[1, 2], [3, 4]], []], "integer[]",
                               ["{{1,2},{3,4}}", "{}"],
                               [[[_number("1"), _number("2")], [_number("3"), _number("4")]], []]),
        "struct": _case(pair, pairs, "jsonb", written, read),
        "list of structs": _case(pa.list_(pair), [pairs, []], "jsonb", [f"[{', '.join(written)}]", "[]"], [read, []]),
        "map": _case(pa.map_(pa.string(), pa.float64()), [[("k", 1.5)], []], "jsonb", ['{"k": 1.5}', "{}"],
                     [{"k": _number("1.5")}, {}]),
    }  # fmt: skip


def arrow_cases() -> Mapping[str, ArrowCase]:
    """All cases, by the name of their column."""
    return _numbers() | _texts() | _times() | _nested()


def read_json(document: str) -> Any:
    """A document with numbers of all their digits."""
    return json.loads(document, parse_float=Decimal, parse_int=Decimal)
