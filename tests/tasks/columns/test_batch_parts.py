"""A batch with entries that become several rows, and with entries that were not read."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pytest

from tasks.base.addresses import IdRange
from tasks.columns.batch import Batch
from tasks.columns.decode import Fault
from tasks.columns.entries import UNREAD, EntryColumns
from tests.support.decoded_entries import ANY_TIME, groups_of
from tests.support.small_layouts import layout_of

IDS = IdRange(1 << 64, 90 << 64)
LAYOUT = layout_of({"a": "integer"}, layout="json")
EACH = replace(LAYOUT, mapping=replace(LAYOUT.mapping, each="items"))


def document(*numbers: int) -> list[bytes]:
    return [b"data", json.dumps({"items": [{"a": number} for number in numbers]}).encode()]


def unread(first: int, *reasons: str) -> EntryColumns:
    """Entries that were not read, with the ids from `first`-0 on."""
    ids = [b"%d-0" % (first + at) for at in range(len(reasons))]
    name = UNREAD.decode().encode()  # equal to the program's, not the same object
    return EntryColumns(pa.array(ids), (name,), (pa.array([reason.encode() for reason in reasons]),))


def test_each_element_is_a_part_with_its_number_and_its_document() -> None:
    batch = Batch("s", IDS, groups_of([document(5, 6, 7), document(8)]), EACH, ANY_TIME)
    assert (batch.read, batch.count) == (2, 4)
    assert [batch.part_number(part) for part in range(5)] == [1, 2, 3, 1, 0]
    expected = [("1-0", 5), ("1-0", 6), ("1-0", 7), ("2-0", 8)]
    found = [batch.raw(part) for part in range(4)]
    assert [(entry_id, json.loads(fields[-1])) for entry_id, fields in found] == [
        (entry_id, {"a": number}) for entry_id, number in expected
    ]
    with pytest.raises(IndexError):
        batch.raw(4)


@pytest.mark.parametrize("many", [1, 3])
def test_entries_that_were_not_read_are_the_last_parts_each_with_its_fault(many: int) -> None:
    """Also if their group comes first, and if there are more parts than entries."""
    read = groups_of([document(5, 6, 7), document(8)])
    reasons = [f"reason {at}" for at in range(many)]
    batch = Batch("s", IDS, [unread(70, *reasons), *read], EACH, ANY_TIME)
    assert (batch.read, batch.count) == (2 + many, 4 + many)
    assert batch.encoded.faults == tuple(Fault(4 + at, "(entry not read)", reason) for at, reason in enumerate(reasons))
    assert [batch.raw(4 + at) for at in range(many)] == [(f"{70 + at}-0", []) for at in range(many)]
    assert [batch.part_number(part) for part in range(3, 4 + many)] == [1] + [0] * many
    assert [batch.raw(part)[0] for part in range(4)] == ["1-0", "1-0", "1-0", "2-0"]
    with pytest.raises(IndexError):
        batch.raw(4 + many)


def test_a_batch_may_have_no_entry_that_was_read() -> None:
    batch = Batch("s", IDS, [unread(1, "too large", "gone")], LAYOUT, ANY_TIME)
    assert (batch.read, batch.count) == (2, 2)
    assert [(fault.reason, batch.raw(part)) for part, fault in enumerate(batch.encoded.faults)] == [
        ("too large", ("1-0", [])),
        ("gone", ("2-0", [])),
    ]


def test_the_halves_keep_what_was_not_read() -> None:
    batch = Batch(
        "s", IDS, [*groups_of([[b"data", b'{"a": 1}'], [b"data", b'{"a": 2}']]), unread(3, "x")], LAYOUT, ANY_TIME
    )
    early, late = batch.split()
    assert (early.count, late.count) == (1, 2)
    assert [fault.reason for fault in late.encoded.faults] == ["x"]
    assert late.raw(1) == ("3-0", [])
