"""The rows of a file as slices: each row that is left comes once, whatever is left and whatever bounds a slice."""

from __future__ import annotations

import random
from contextlib import closing
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from infra.mapping import FLAT
from tasks.columns.decode import Window
from tasks.files import spool as spooling
from tasks.files.block import Rows
from tasks.files.reader import DAY_MS, FileReader, address
from tasks.files.spool import Section, Spool
from tasks.ids import IdRange, parse_id
from tasks.read import Limits

ROWS = 3_000
_EVERY_TIME = Window(-(2**62), 2**62)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("held", [True, False])
def test_every_row_that_is_left_comes_once_in_the_order_of_its_address(
    seed: int, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not held:
        monkeypatch.setattr(spooling, "_MEMORY_BYTES", 0)
    chance = random.Random(seed)
    days = np.array([chance.randrange(chance.choice([1, 3, 50])) * DAY_MS for _ in range(ROWS)])
    numbers = np.arange(1, ROWS + 1)
    addresses = sorted(address(int(day), int(number)) for day, number in zip(days, numbers, strict=True))
    # Gaps as slices that are committed by several connections and a kill leave them: many in one piece.
    edges = sorted(chance.sample(addresses, 2 * chance.randrange(1, 40)))
    gaps = [IdRange(low, high) for low, high in list(pairwise(edges))[::2]]
    with closing(Spool()) as spool:
        section = Section(spool)
        for start in range(0, ROWS, 700):
            part = slice(start, start + 700)
            texts = pa.array([f"{number}".encode() for number in numbers[part]], pa.binary())
            section.add(Rows(numbers[part], (b"event_id",), (texts,)), days[part])
        section.seal()
        reader = FileReader("file:x", section, gaps, Limits(chance.choice([7, 90, 5_000]), 8 << 20), FLAT, _EVERY_TIME)
        batches = list(iter(reader.read, None))
    for gap in gaps:
        within = [batch.ids for batch in batches if gap.start <= batch.ids.start < gap.stop]
        assert (within[0].start, within[-1].stop) == (gap.start, gap.stop)
        assert all(before.stop == after.start for before, after in pairwise(within))
    found = [parse_id(entry) for batch in batches for group in batch.groups for entry in group.ids.to_pylist()]
    assert found == [at for at in addresses if any(gap.start <= at < gap.stop for gap in gaps)]
