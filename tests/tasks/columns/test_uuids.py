"""Texts to UUIDs, against `uuid.UUID`."""

from __future__ import annotations

import uuid

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.columns.uuids import NAMESPACE, parse_uuids
from tests.support.decoded_entries import ID, texts

PLAIN = ID.replace("-", "")
GOOD = [ID, ID.upper(), f"{{{ID}}}", PLAIN, PLAIN.upper(), f"{{{PLAIN}}}", f"urn:uuid:{ID}", f"URN:UUID:{ID.upper()}"]
BAD = [
    "",
    " ",
    "x",
    ID[:-1],
    f"{ID}0",
    f" {ID}",
    f"{ID}\n",
    f"{ID[:-1]}g",
    f"{ID[:-1]}X",
    f"{ID[:-2]}é",  # 36 bytes
    "é" * 18,  # 36 bytes
    "\x00" * 36,
    "0123abcd4-567-89ab-cdef-0123456789ab",  # 36 bytes, a dash in the wrong position
    "0123abcd_4567_89ab_cdef_0123456789ab",
    "0123abcd 4567 89ab cdef 0123456789ab",
    "0123abcd-456789ab-cdef0123456789ab",
    "0123abcd-4567-89ab-cdef0123456789ab0",
    f"{{{ID}",
    f"{{{{{ID}}}}}",
    f"uuid:{ID}",
    "1_23abcd456789abcdef0123456789ab",  # `int` reads over an underscore
    "٠123abcd456789abcdef0123456789ab",  # and knows every alphabet's digits
    "0x23abcd456789abcdef0123456789ab",
    "+123abcd456789abcdef0123456789ab",
]


def parsed(values: list[str], namespace: uuid.UUID | None = None) -> list[uuid.UUID | None]:
    found, good = parse_uuids(texts(values), namespace)
    assert found.shape == (len(values), 16)
    assert found.dtype == np.uint8
    assert not found[~good].any()
    return [uuid.UUID(bytes=row.tobytes()) if ok else None for row, ok in zip(found, good, strict=True)]


@pytest.mark.parametrize("text", GOOD)
def test_a_uuid_is_read_in_every_usual_spelling(text: str) -> None:
    assert parsed([text]) == [uuid.UUID(ID)]
    assert parsed([ID, text, "x"]) == [uuid.UUID(ID), uuid.UUID(ID), None]
    assert parsed([text], namespace=NAMESPACE) == [uuid.UUID(ID)]


@pytest.mark.parametrize("text", BAD, ids=ascii)
def test_a_text_that_is_no_uuid_is_told_apart_and_hurts_no_other(text: str) -> None:
    assert parsed([text]) == [None]
    assert parsed([ID, text, ID]) == [uuid.UUID(ID), None, uuid.UUID(ID)]


@pytest.mark.parametrize("text", [text for text in BAD if text.strip()], ids=ascii)
def test_with_uuid5_any_other_text_becomes_the_uuid_of_its_own(text: str) -> None:
    assert parsed([text, ID], namespace=NAMESPACE) == [uuid.uuid5(NAMESPACE, text), uuid.UUID(ID)]


def test_with_uuid5_an_empty_text_is_still_no_id() -> None:
    """Else all events without an id that share a time would be one event."""
    assert parsed(["", "  ", "order-17"], namespace=NAMESPACE) == [None, None, uuid.uuid5(NAMESPACE, "order-17")]


def test_without_uuid5_a_text_that_is_not_a_uuid_is_no_id() -> None:
    found, good = parse_uuids(texts(["order-17", ID]))
    assert (found[0].any(), good.tolist()) == (False, [False, True])


def test_the_namespace_never_changes() -> None:
    """Its ids are in tables: with another namespace a replayed event would be a new one."""
    assert parsed(["order-17"], namespace=NAMESPACE) == [uuid.UUID("c7490b57-f50f-52a5-b703-a697c57f09f8")]


def test_a_slice_of_usual_uuids_begins_at_its_own_first_text() -> None:
    ids = [uuid.UUID(int=i) for i in range(1, 6)]
    found, good = parse_uuids(texts(["x", *map(str, ids), "yy"])[2:5])
    assert good.all()
    assert [uuid.UUID(bytes=row.tobytes()) for row in found] == ids[1:4]


def test_an_empty_column_has_no_uuids() -> None:
    assert parsed([]) == []
    found, good = parse_uuids(texts([ID])[:0])
    assert (found.shape, good.shape) == ((0, 16), (0,))


def test_an_empty_column_may_have_no_offsets() -> None:
    """Arrow's format allows an empty buffer of offsets if there are no texts."""
    nothing = pa.py_buffer(b"")
    found, good = parse_uuids(pa.Array.from_buffers(pa.string(), 0, [None, nothing, nothing]))
    assert (found.shape, good.shape) == ((0, 16), (0,))


@settings(max_examples=100)
@given(st.lists(st.tuples(st.uuids(), st.sampled_from(["{}", "{{{}}}", "urn:uuid:{}", "plain", "upper"])), max_size=40))
def test_any_uuids_in_any_spellings_are_what_python_reads(values: list[tuple[uuid.UUID, str]]) -> None:
    special = {"plain": lambda u: u.hex, "upper": lambda u: str(u).upper()}
    written = [special[how](u) if how in special else how.format(u) for u, how in values]
    assert parsed(written) == [u for u, _ in values]


@settings(max_examples=100)
@given(st.lists(st.sampled_from([*GOOD, *BAD, str(uuid.UUID(int=7))]), max_size=12), st.data())
def test_a_slice_gives_what_its_texts_alone_give(values: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(values)))
    stop = data.draw(st.integers(start, len(values)))
    found, good = parse_uuids(texts(values)[start:stop], namespace=NAMESPACE)
    expected, expected_good = parse_uuids(texts(values[start:stop]), namespace=NAMESPACE)
    assert found.tolist() == expected.tolist()
    assert good.tolist() == expected_good.tolist()


@pytest.mark.parametrize("column", [[ID], [ID, ID.upper()], [ID, "x", ID.upper()], [ID, PLAIN]])
def test_the_usual_spelling_is_not_parsed_one_by_one(column: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one gives the same result and takes thirty times as long."""
    alone: list[str] = []
    parse_one = uuid.UUID
    monkeypatch.setattr(uuid, "UUID", lambda text: [alone.append(text), parse_one(text)][1])
    _, good = parse_uuids(texts(column))
    assert good.tolist() == [value != "x" for value in column]
    assert alone == [value for value in column if value == PLAIN]


def test_a_slice_of_a_column_is_parsed_like_a_column_of_its_own() -> None:
    others = [str(uuid.uuid4()) for _ in range(5)]
    for start, stop in ((0, 2), (1, 3), (3, 5), (2, 2)):
        found, good = parse_uuids(texts(others)[start:stop])
        assert [bytes(row) for row in found] == [uuid.UUID(text).bytes for text in others[start:stop]]
        assert good.all()
