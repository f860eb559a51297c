"""The type of a column that takes all values of a sample, and what a mapping must say so that it does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from infra.mapping.column_source import ColumnSource
from infra.tables.table import TableColumn
from tasks.columns.types.registry import type_of
from tasks.mapping.leaves import Leaf
from tasks.mapping.sample_documents import Digits

# Texts that programs write for a missing value. They are nulls only if all other values have a stricter type than text.
NULL_TEXTS = frozenset({"", "NA", "N/A", "n/a", "null", "NULL", "Null", "None", "none", "nil", "-", "\\N", "<NA>"})
# Words in the name of a time. A number is a time only if its name says so.
_TIME_WORDS = re.compile(
    r"(?:^|_)(?:time|timestamp|ts|at|date|datetime|day|created|updated|modified|generated|occurred|when|epoch|expires"
    r"|born|since|until)(?:_|$|[0-9])|(?:time|date)$|(?:^|_)(?:ms|millis|us|micros|ns|nanos)$"
)
_MONEY_WORDS = re.compile(r"(?:^|_)(?:price|amount|total|subtotal|cost|fee|tax|balance|discount|revenue|sum)s?(?:_|$)")
_FEW = 20
_EARLIEST, _LATEST = 631_152_000, 4_102_444_800  # 1990 and 2100, in seconds since 1970
# How much larger than seconds a number since 1970 is in each unit. The first three need no unit in a mapping.
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|NaN")
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}.*")
_BOOLEAN = re.compile(r"true|false|True|False|TRUE|FALSE")
# Formats of times that are tried. If several fit all values, they are ambiguous, and none is used.
_DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_FORMATS = (
    *(day + clock for day in _DAYS for clock in _CLOCKS),
    "%d/%b/%Y:%H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S GMT",
    "%d %b %Y %H:%M:%S",
    "%b %d, %Y",
)
# A text that may have one of these formats.
_FORMATTED = re.compile(r"(?:[A-Z][a-z]{2},? )?[0-9]{1,4}[/. -][0-9A-Za-z]{1,3}[/., -].*|[A-Z][a-z]{2} [0-9]+, [0-9]+")


@dataclass(frozen=True)
class InferredType:
    """A type, and the options of its column.

    `sql`: such as `int8`. `nulls`: texts of the sample that mean null. `options`: those of a column in a mapping.
    `note`: for the person who checks the proposal; empty if there is nothing to say.
    """

    sql: str
    nulls: frozenset[str] = frozenset()
    options: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def is_time(self) -> bool:
        """Whether it can be the time of a hypertable."""
        return self.sql in ("timestamptz", "date")


def infer_type(leaf: Leaf, layout: str) -> InferredType:
    """The strictest type that takes every value of a key. `layout`: of the sample; values of `flat` are all texts."""
    values = [value for value in leaf.values if value is not None]
    if not values:
        return InferredType("text", note="no value in the sample")
    nulls = frozenset(value for value in values if value in NULL_TEXTS) if _are_scalars(values) else frozenset()
    if nulls:
        others = [value for value in values if value not in nulls]
        found = _infer(leaf.words, others, layout) if others else InferredType("text")
        if found.sql not in ("text", "jsonb"):
            return replace(found, nulls=nulls)
    return _infer(leaf.words, values, layout)


def _are_scalars(values: Sequence[Any]) -> bool:
    return not any(isinstance(value, dict | list) for value in values)


def _infer(words: str, values: Sequence[Any], layout: str) -> InferredType:
    if not _are_scalars(values):
        return InferredType("jsonb")
    if all(isinstance(value, bool) for value in values):
        return InferredType("bool")
    if not all(isinstance(value, str) for value in values):
        return InferredType("text", note="booleans and other values")
    numbers = sum(isinstance(value, Digits) for value in values)
    if numbers and numbers < len(values):
        return InferredType("text", note="numbers and texts")
    candidates = _of_numbers(words, values) if numbers or layout == "flat" else iter(())
    found: InferredType
    for found in chain(candidates, () if numbers else _of_texts(values, layout)):
        if _fits(found, values):
            return found
    return InferredType("text")


def _of_numbers(words: str, values: Sequence[str]) -> Iterator[InferredType]:
    if _all(_INTEGER, values):
        if _TIME_WORDS.search(words) and (unit := _unit(values)):
            yield InferredType("timestamptz", options={"unit": unit} if unit == "ns" else {}, note=f"{unit} since 1970")
        yield InferredType("int8" if all(-(2**63) <= int(value) < 2**63 for value in values) else "numeric")
    elif _all(_NUMBER, values):
        if _MONEY_WORDS.search(words) or not all(map(_is_float, values)):
            yield InferredType("numeric")
        yield InferredType("float8")


def _of_texts(values: Sequence[str], layout: str) -> Iterator[InferredType]:
    if _all(_UUID, values):
        yield InferredType("uuid")
    if _all(_ULID, values):
        yield InferredType("uuid", options={"ulid": True}, note="a ULID, as the UUID with the same bits")
    if _all(_DATE, values):
        yield InferredType("date")
    if _all(_MOMENT, values):
        local = not all(re.search(r"(?:Z|[+-][0-9]{2}:?[0-9]{2})$", value) for value in values)
        yield InferredType("timestamptz", note="without an offset: UTC, unless a timezone is named" if local else "")
    if _all(_FORMATTED, values):
        yield from _formats(values)
    if layout == "flat" and _all(_BOOLEAN, values):
        yield InferredType("bool")
    if layout == "json" and _all(_FRACTION, values):
        yield InferredType("numeric")
    if all(value[:1] in ("{", "[") for value in values):
        yield InferredType("jsonb", options={"json": True} if layout == "json" else {})


def _formats(values: Sequence[str]) -> Iterator[InferredType]:
    fitting = list(_FORMATS)
    for some in (values[:_FEW], values):  # most formats fit no text at all
        fitting = [form for form in fitting if _fits(InferredType("timestamptz", options={"format": form}), some)]
    if len(fitting) == 1:
        form = fitting[0]
        local = "%z" not in form and "GMT" not in form
        note = "without an offset: UTC, unless a timezone is named" if local else ""
        kind = "timestamptz" if "%H" in form or "%I" in form else "date"
        yield InferredType(kind, options={"format": form}, note=note if kind == "timestamptz" else "")
    elif fitting:
        yield InferredType("text", note=f"a time of the format {' or '.join(fitting)}: choose one")


def _all(pattern: re.Pattern[str], values: Sequence[str]) -> bool:
    return all(map(pattern.fullmatch, values))


def _unit(values: Sequence[str]) -> str | None:
    """The unit in which every number is a time from 1990 to 2100. Zero, which often means none, is not."""
    numbers = list(map(int, values))
    for unit, factor in _UNITS.items():
        if min(numbers) >= _EARLIEST * factor and max(numbers) < _LATEST * factor:
            return unit
    return None


def _is_float(text: str) -> bool:
    """Whether a float8 has the number as it is written: no digit is lost."""
    return text == "NaN" or Decimal(repr(float(text))) == Decimal(text)


def _fits(found: InferredType, values: Sequence[str]) -> bool:
    """Whether the type takes every value, as a drain would decide."""
    column = TableColumn("", found.sql, found.sql)
    parse: Callable[..., Any] = type_of(column).parse
    source = ColumnSource(("", "x", ""), unit=found.options.get("unit"), format=found.options.get("format"))
    if found.options.get("ulid"):
        return True
    parsed = parse(pa.array([str(value) for value in values], pa.string()), source)
    return parsed.bad is None or not bool(np.asarray(parsed.bad).any())
