"""Entries of every shape are in the quarantine as they came, in whatever order their faults are given."""

from __future__ import annotations

import json
from dataclasses import replace

import psycopg
import pyarrow as pa
import pytest

from tasks.base.addresses import IdRange
from tasks.columns.batch import Batch
from tasks.columns.decode import Fault
from tasks.columns.entries import UNREAD, EntryColumns, page_to_columns
from tasks.table.quarantine_entries import quarantine_entries
from tests.support.small_layouts import layout_of
from tests.support.user_table import ANY_TIME, STREAM

LAYOUT = layout_of({"a": "integer"}, layout="json")
EACH = replace(LAYOUT, mapping=replace(LAYOUT.mapping, each="items"))
Fields = list[bytes]

SAME: list[Fields] = [[b"data", b"%d" % n, b"\xff", b"\0" * n] for n in range(20)]
ODD: list[Fields] = [[b"data", b"x"] * (n + 1) for n in range(30)] + [[b"", b""]]
ITEMS: list[Fields] = [[b"data", json.dumps({"items": [{"a": n}, {"a": "no"}]}).encode()] for n in range(3)]


def _ids(first: int, count: int) -> pa.Array:
    return pa.array([b"%d-0" % (first + n) for n in range(count)], pa.binary())


@pytest.mark.parametrize("entries", [SAME, ODD, SAME + ODD, ITEMS], ids=["same", "odd", "both", "elements"])
def test_every_entry_is_kept_as_it_came(database: psycopg.Connection, entries: list[Fields]) -> None:
    database.execute("INSERT INTO spillway.streams (name, baseline) VALUES (%s, 0)", [STREAM])
    layout = EACH if entries is ITEMS else LAYOUT
    unread = EntryColumns(_ids(900, 2), (UNREAD,), (pa.array([b"too large", b"gone"], pa.binary()),))
    # The row of a file may lack a field.
    row = EntryColumns(_ids(800, 2), (b"a", b"b"), (pa.array([b"1", None]), pa.array([b"", b"2"], pa.binary())))
    page = page_to_columns([(b"%d-7" % (n + 1), fields) for n, fields in enumerate(entries)])
    groups = [unread, *page] if entries is ITEMS else [unread, *page, row]
    batch = Batch(STREAM, IdRange(1 << 64, 999 << 64), groups, layout, ANY_TIME)
    faults = [
        Fault(part, f"field\0{part}", f"reason \ud800{part}", conflict=part % 3 == 0) for part in range(batch.count)
    ]
    quarantine_entries(database, batch, faults[::-1])
    query = "SELECT entry_id, part, fields, kind, field, reason FROM spillway.quarantine"
    kept = {(entry, part): tuple(rest) for entry, part, *rest in database.execute(query)}
    assert len(kept) == batch.count
    assert kept == {
        (batch.raw(part)[0], batch.part_number(part)): (
            batch.raw(part)[1],
            "conflict" if part % 3 == 0 else "refused",
            f"field\\0{part}",
            f"reason \\ud800{part}",
        )
        for part in range(batch.count)
    }
    if entries is not ITEMS:
        assert sorted(fields for (entry, _), (fields, *_) in kept.items() if entry.endswith("-7")) == sorted(entries)
