"""Convert Arrow columns of any type to text, in the form that a stream entry has."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tasks.columns.flat_documents import NOT_FINITE
from tasks.columns.times import fill_far_years, format_times, trim_zeros
from tasks.files.formats.spelling import Spelling

_UUID_BYTES = 16
_HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)  # the two hex digits of each byte
_GROUPS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))  # digit ranges of a UUID, joined by dashes
_DIGITS_ALONE = r"^-?[0-9]+$"
_EXPONENT_BELOW = 1e-4  # Python writes smaller numbers with an exponent, Arrow does not
_DAY_MS = 86_400_000
_ZEROS_TO_MICROSECONDS = {"s": "000000", "ms": "000"}
_MICROSECONDS = " microseconds"
_JSON = orjson.OPT_NON_STR_KEYS | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def is_json(kind: pa.DataType, spelling: Spelling = "plain") -> bool:
    """Whether the texts of a type are JSON: of numbers, booleans, lists, structs, maps and documents, and in quotes."""
    if isinstance(kind, pa.JsonType) or (spelling == "json" and _is_quoted(kind)):
        return True
    if isinstance(kind, pa.BaseExtensionType):
        return is_json(kind.storage_type, spelling)
    if pa.types.is_dictionary(kind):
        return is_json(kind.value_type, spelling)
    tests = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_nested)
    return any(test(kind) for test in tests)


def as_text(array: pa.Array, spelling: Spelling = "plain", nan_as_null: bool = False) -> pa.Array:
    """Convert a column of n values to binary of length n with the same nulls.

    The text of a value does not depend on the width, unit or encoding of its column; docs/reference/mapping.md lists
    the rules. Times are written by `format_times`. Fixed-width values of 16 bytes are written as UUIDs. Text and bytes
    stay unchanged. Lists, structs and maps become JSON; `nan_as_null`: NaN and infinity are null there, not strings.
    `spelling`: how the column of the table needs it. Raises `TypeError` for a value that JSON cannot hold.
    """
    kind = array.type
    if spelling == "json":
        return _as_json(array, nan_as_null)
    if isinstance(kind, pa.BaseExtensionType):
        return as_text(array.storage, spelling, nan_as_null)
    if pa.types.is_dictionary(kind):
        return as_text(array.dictionary_decode(), spelling, nan_as_null)
    if pa.types.is_null(kind):
        return pa.nulls(len(array), pa.binary())
    if pa.types.is_nested(kind):
        return _json(array, spelling, nan_as_null)
    if spelling == "bytea" and _is_bytes(kind):
        return _hexadecimal(array)
    if spelling == "interval" and pa.types.is_duration(kind):
        return pc.binary_join_element_wise(_durations(array), _MICROSECONDS, "").cast(pa.binary())
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == _UUID_BYTES:
        return _uuids(array)
    if pa.types.is_fixed_size_binary(kind) or _is_text(kind):
        return array.cast(pa.binary())
    return _scalar_texts(array).cast(pa.binary())


def _scalar_texts(array: pa.Array) -> pa.Array:
    """Numbers, times and dates as strings."""
    kind = array.type
    if pa.types.is_timestamp(kind):
        return format_times(array)
    if pa.types.is_floating(kind):
        return _floats(array.cast(pa.float32()) if pa.types.is_float16(kind) else array)
    if pa.types.is_decimal(kind):
        return _decimals(array)
    if pa.types.is_time(kind):
        return trim_zeros(array.cast(pa.string()))
    if pa.types.is_duration(kind):
        return _durations(array)
    if pa.types.is_date(kind):
        return _dates(array)
    return array.cast(pa.string())


def _is_bytes(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def _is_text(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in (*tests, pa.types.is_string_view, pa.types.is_binary_view))


def _floats(array: pa.Array) -> pa.Array:
    """Format floats like Python and pandas: the shortest digits that round-trip, with `.0` for whole numbers."""
    texts = array.cast(pa.string())
    whole = pc.match_substring_regex(texts, _DIGITS_ALONE)
    texts = pc.if_else(whole, pc.binary_join_element_wise(texts, ".0", ""), texts)
    size = pc.abs(array)
    odd = pc.or_(pc.match_substring(texts, "e"), pc.and_(pc.less(size, _EXPONENT_BELOW), pc.greater(size, 0)))
    return _replaced(texts, odd, [str(number) for number in np.asarray(array.filter(odd))])


def _dates(array: pa.Array) -> pa.Array:
    if pa.types.is_date32(array.type):
        days = array.view(pa.int32()).cast(pa.int64())
    else:
        millis = np.asarray(array.view(pa.int64()).fill_null(0))
        days = pa.array(millis // _DAY_MS, mask=np.asarray(array.is_null()))
    return fill_far_years(days, array.cast(pa.string()), "D")


def _durations(array: pa.Array) -> pa.Array:
    """Durations in microseconds, truncated. Zeros are appended as digits: a product could exceed 64 bits."""
    unit = array.type.unit
    numbers = array.view(pa.int64())
    if unit == "ns":
        numbers = pc.divide(numbers, 1000)
    texts = numbers.cast(pa.string())
    zeros = _ZEROS_TO_MICROSECONDS.get(unit)
    return (
        texts
        if zeros is None
        else pc.if_else(pc.equal(numbers, 0), texts, pc.binary_join_element_wise(texts, zeros, ""))
    )


def _decimals(array: pa.Array) -> pa.Array:
    """All digits of the type, without an exponent."""
    texts = array.cast(pa.string())
    odd = pc.match_substring(texts, "E")
    return _replaced(texts, odd, [format(value, "f") for value in array.filter(odd).to_pylist() if value is not None])


def _replaced(texts: pa.Array, mask: pa.Array, values: list[str]) -> pa.Array:
    return pc.replace_with_mask(texts, mask.fill_null(False), pa.array(values, pa.string())) if values else texts


def _uuids(array: pa.Array) -> pa.Array:
    n = len(array)
    start = array.offset * _UUID_BYTES
    raw = np.frombuffer(array.buffers()[1] or b"", np.uint8)[start : start + n * _UUID_BYTES]
    digits = _HEX[raw].view(np.uint8).reshape(n, 2 * _UUID_BYTES)
    texts = np.full((n, 2 * _UUID_BYTES + len(_GROUPS) - 1), ord("-"), np.uint8)
    for dashes, (begin, end) in enumerate(_GROUPS):
        texts[:, begin + dashes : end + dashes] = digits[:, begin:end]
    fixed = pa.Array.from_buffers(pa.binary(texts.shape[1]), n, [_validity(array), pa.py_buffer(texts)])
    return fixed.cast(pa.binary())


def _validity(array: pa.Array) -> pa.Buffer | None:
    """The validity bitmap of an array, starting at its first row instead of at its buffer."""
    return pc.if_else(array.is_valid(), True, None).buffers()[0] if array.null_count else None


def _hexadecimal(array: pa.Array) -> pa.Array:
    return pa.array([value if value is None else _hex(value).encode() for value in array.to_pylist()], pa.binary())


def _hex(value: bytes) -> str:
    return f"\\x{value.hex()}"


def _as_json(array: pa.Array, nan_as_null: bool) -> pa.Array:
    """Every value as JSON. Text and bytes stay unchanged: they are JSON already."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _as_json(array.dictionary_decode(), nan_as_null)
    texts = as_text(array, "plain", nan_as_null)
    if pa.types.is_floating(kind):
        for text, name in NOT_FINITE.items():
            found = pc.equal(texts, pa.scalar(text.encode(), pa.binary()))
            texts = pc.if_else(found, pa.scalar(f'"{name}"'.encode(), pa.binary()), texts)
        return texts
    if _is_quoted(kind):
        quote = pa.scalar(b'"', pa.binary())
        return pc.binary_join_element_wise(quote, texts, quote, pa.scalar(b"", pa.binary()))
    return texts


def _is_quoted(kind: pa.DataType) -> bool:
    """Whether values need quotes to be JSON: times and UUIDs."""
    is_uuid = isinstance(kind, pa.UuidType) or (pa.types.is_fixed_size_binary(kind) and kind.byte_width == _UUID_BYTES)
    return bool(is_uuid or (pa.types.is_temporal(kind) and not pa.types.is_duration(kind)))


def _json(array: pa.Array, spelling: Spelling, nan_as_null: bool) -> pa.Array:
    values = array.to_pylist(maps_as_pydicts="lossy")
    if not nan_as_null and _has_not_finite(array):
        values = [_with_names(value) for value in values]
    default = {"bytea": _with_hex, "interval": _with_intervals}.get(spelling, _plain)
    return pa.array([None if value is None else orjson.dumps(value, default, _JSON) for value in values], pa.binary())


def _has_not_finite(array: pa.Array) -> bool:
    """Whether there may be NaN or infinity anywhere in an array. They may be outside a slice of a map."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _has_not_finite(array.storage)
    if pa.types.is_dictionary(kind):
        return _has_not_finite(array.dictionary)
    if pa.types.is_map(kind):
        return _has_not_finite(array.keys) or _has_not_finite(array.items)
    if pa.types.is_struct(kind):
        return any(map(_has_not_finite, array.flatten()))
    if pa.types.is_nested(kind):
        return _has_not_finite(array.flatten())
    return pa.types.is_floating(kind) and not pc.all(pc.is_finite(array), min_count=0).as_py()


def _with_names(value: Any) -> Any:
    """The same value with strings in place of NaN and infinity, which orjson would write as null."""
    if isinstance(value, dict):
        return {key: _with_names(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_names(one) for one in value]
    return NOT_FINITE.get(str(value), value) if isinstance(value, float) else value


def _with_hex(value: Any) -> Any:
    return _hex(value) if isinstance(value, bytes) else _plain(value)


def _with_intervals(value: Any) -> Any:
    return f"{_microseconds(value)}{_MICROSECONDS}" if isinstance(value, timedelta) else _plain(value)


def _plain(value: Any) -> Any:
    """Convert a value that Arrow returns and orjson cannot serialize."""
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value)) if value.is_finite() else str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, datetime):  # a pandas Timestamp: Arrow returns one for nanoseconds
        return value.to_pydatetime(warn=False)  # type: ignore[attr-defined]
    if isinstance(value, timedelta):
        return orjson.Fragment(str(_microseconds(value)))
    raise TypeError(f"a value of type {type(value).__name__}")


def _microseconds(value: timedelta) -> int:
    """Truncate toward zero, as in a top-level column: a pandas Timedelta also has nanoseconds."""
    micros = value // timedelta(microseconds=1)
    return micros + (micros < 0 and bool(getattr(value, "nanoseconds", 0)))
