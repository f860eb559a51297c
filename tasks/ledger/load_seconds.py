"""The buckets of the histogram of how long loads take, in SQL, for the ledger and for `spillway.load_hours`."""

from __future__ import annotations

# Upper bounds in seconds. The numbers in `spillway.load_hours` are by these: a change needs a migration.
LOAD_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


def _buckets() -> str:
    # As `real`, like the column: 0.1 as a double precision is less than 0.1 as a real.
    lows = ("'-infinity'", *map(str, LOAD_SECONDS))
    highs = (*map(str, LOAD_SECONDS), "'infinity'")
    counts = (
        f"count(*) FILTER (WHERE seconds > {low}::real AND seconds <= {high}::real)"
        for low, high in zip(lows, highs, strict=True)
    )
    return f"ARRAY[{', '.join(counts)}]"


# An aggregate over rows with a column `seconds`: an array with the count of each bucket, and of those above all bounds.
BUCKETS = _buckets()
# An aggregate over rows with such an array in `buckets`: an array with their sums.
SUM_OF_BUCKETS = f"ARRAY[{', '.join(f'sum(buckets[{n + 1}])::bigint' for n in range(len(LOAD_SECONDS) + 1))}]"
