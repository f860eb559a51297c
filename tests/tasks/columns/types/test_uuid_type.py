"""UUIDs from ULIDs and in a namespace."""

from __future__ import annotations

import uuid

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.mapping.column_source import DEFAULT_NAMESPACE, ColumnSource
from tasks.columns.types.uuid_type import UUID

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"  # of the specification
ID = "0123abcd-4567-89ab-cdef-0123456789ab"


def parse(texts: list[str | None], source: ColumnSource) -> list[uuid.UUID | None]:
    """The UUIDs; None for null and for what is bad."""
    parsed = UUID.parse(pa.array(texts, pa.string()), source)
    assert parsed.values.is_null().to_pylist() == [text is None for text in texts]
    bad = [False] * len(texts) if parsed.bad is None else parsed.bad.tolist()
    assert not any(wrong and text is None for wrong, text in zip(bad, texts, strict=True))
    values = parsed.values.to_pylist()
    return [None if wrong or raw is None else uuid.UUID(bytes=raw) for wrong, raw in zip(bad, values, strict=True)]


def written(number: int) -> str:
    """The ULID of 128 bits."""
    return "".join(ALPHABET[number >> (5 * place) & 31] for place in range(25, -1, -1))


@settings(max_examples=200)
@given(st.lists(st.integers(0, 2**128 - 1) | st.none() | st.sampled_from([0, 2**128 - 1]), max_size=8), st.booleans())
def test_a_ulid_becomes_the_uuid_with_the_same_bits(numbers: list[int | None], lower: bool) -> None:
    texts = [None if number is None else written(number) for number in numbers]
    texts = [text.lower() if text and lower else text for text in texts]
    expected = [None if number is None else uuid.UUID(int=number) for number in numbers]
    assert parse(texts, ColumnSource(ulid=True)) == expected
    assert parse([*texts, "x"], ColumnSource(ulid=True)) == [*expected, None]


@pytest.mark.parametrize(
    "text", ["", ULID[:-1], ULID + "0", "8" + ULID[1:], *(ULID[:-1] + odd for odd in "ILOU-é"), ID, f" {ULID[2:]} "]
)
def test_another_text_is_not_a_ulid(text: str) -> None:
    assert parse([ULID, text, None], ColumnSource(ulid=True)) == [
        uuid.UUID("01563e3a-b5d3-d676-4c61-efb99302bd5b"),
        None,
        None,
    ]
    assert UUID.parse(pa.array([text]), ColumnSource(ulid=True)).expected == "a ULID of 26 characters"


def test_a_text_that_is_not_a_uuid_becomes_one_in_the_namespace() -> None:
    other = uuid.uuid4()
    texts = ["order-17", None, ID, "", "  "]
    for namespace in (DEFAULT_NAMESPACE, other):
        expected = [uuid.uuid5(namespace, "order-17"), None, uuid.UUID(ID), None, None]
        assert parse(texts, ColumnSource(namespace=namespace)) == expected
    assert parse(texts, ColumnSource()) == [None, None, uuid.UUID(ID), None, None]


def test_typed_numbers_are_read_as_their_digits() -> None:
    found = UUID.parse(pa.array([17, None]), ColumnSource(namespace=DEFAULT_NAMESPACE))
    assert found.values.to_pylist() == [uuid.uuid5(DEFAULT_NAMESPACE, "17").bytes, None]
