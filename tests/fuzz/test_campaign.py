"""A hundred thousand entries, good, repeated, changed, broken and unusual, drained by the flow: each has its predicted
fate.

The seed is fixed; SPILLWAY_TEST_FUZZ_SEED sets another one. A failure shows the seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import psycopg
import pytest
import redis

from flows.drain import drain
from infra.settings import Settings
from tests.fuzz.differences import PredictedStream, differences
from tests.fuzz.entries import Mix, Source
from tests.fuzz.layouts import LAYOUTS, MAPPINGS
from tests.fuzz.prediction import Fate, Oracle
from tests.fuzz.seed import SEED
from tests.fuzz.streams import EARLIEST, LATEST, add, ids, settings_of_the_window
from tests.support.oracle import ledger_is_whole

pytestmark = pytest.mark.usefixtures("prefect_server")

# The most rows of a batch, and how many entries of each stream are drained with it.
ROUNDS = [(1, 15), (2, 30), (7, 60), (40, 400), (300, 3_000), (2_000, 6_200), (50_000, 7_300)]
CHECKED = (1, 2, 7, 40, 300, 50_000)  # after these rounds; it takes seconds when the tables are full
COUNT = sum(count for _, count in ROUNDS) * len(LAYOUTS)


def test_every_entry_of_a_long_campaign_has_the_predicted_fate(
    redis_client: redis.Redis,
    database: psycopg.Connection,
    configure: Callable[..., Settings],
    tmp_path: Path,
) -> None:
    """Compares all rows, raw fields and kinds. Batches of all sizes see every kind of entry."""
    print(f"SPILLWAY_TEST_FUZZ_SEED={SEED}")
    (tmp_path / "spillway.toml").write_text(MAPPINGS)
    sources = {stream: Source(f"{SEED} {stream}", layout) for stream, layout in LAYOUTS.items()}
    numbers = {stream: ids(Random(f"{SEED} {stream} ids")) for stream in LAYOUTS}
    predicted = {stream: PredictedStream(Oracle(layout, EARLIEST, LATEST)) for stream, layout in LAYOUTS.items()}
    for batch_rows, count in ROUNDS:
        # The time to isolate a row that the server refuses grows with the batch, so large batches get fewer of them.
        mix = Mix(by_server=0.04 if batch_rows < 300 else 0.01)
        for stream, source in sources.items():
            entries = list(zip(numbers[stream], source.entries(count, mix), strict=False))
            for entry_id, fields in entries:
                predicted[stream].predict(entry_id, fields)
            add(redis_client, stream, entries)
        # One load after the other, so that the first of two entries with the same key is known.
        configure(
            mappings=tmp_path / "spillway.toml", batch_rows=batch_rows, max_bad_share=1, parallel_loads=1,
            **settings_of_the_window(),
        )  # fmt: skip
        drain("fuzz-*")
        if batch_rows in CHECKED:
            assert differences(database, predicted) == [], f"SPILLWAY_TEST_FUZZ_SEED={SEED}, batches of {batch_rows}"
    assert all(ledger_is_whole(database, stream) for stream in LAYOUTS)
    fates = sum((one.counts for one in predicted.values()), Counter())
    assert fates.total() == COUNT >= 100_000
    assert 0.4 < fates[Fate.ROW] / COUNT < 0.6, fates
    assert min(fates[fate] for fate in Fate) > 0.02 * COUNT, fates
