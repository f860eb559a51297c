"""Compress what a backfill has touched: at its end, several chunks at the same time."""

from __future__ import annotations

from collections.abc import Sequence

from infra.connections import Clients
from tasks.backfill.chunks import find_to_compress
from tasks.backfill.source import Source
from tasks.compress import Again, compress_again, words_of
from tasks.step import step
from tasks.undisturbed import Busy

_PORTIONS = 4  # for each connection, so that all end at about the same time


@step("compress", retries=1)
def compress_portion(clients: Clients, portion: Sequence[Again]) -> int:
    """Compress some chunks; returns how many. Those that others use all the time are left to the maintain flow."""
    done = 0
    with clients.explained("compress"), clients.postgres() as connection:
        words = words_of(connection)
        for again in portion:
            try:
                compress_again(connection, again, words)
                done += 1
            except Busy:
                continue
    return done


def compress_touched(clients: Clients, sources: Sequence[Source], parallel: int) -> int:
    """Compress the chunks into which rows of the sources went, and that are old enough by the settings."""
    # Of a file all of its days: a run that was killed may have loaded what is not left now, and compressed nothing.
    days = sorted({day for source in sources for day in (source.scanned or source).days if day})
    if not days:
        return 0
    due = find_to_compress(clients, days)
    count = max(1, min(len(due), parallel * _PORTIONS)) if parallel > 1 else 1
    portions = [due[start::count] for start in range(count)]
    futures = [compress_portion.submit(clients, portion) for portion in portions if portion]
    return sum(future.result() for future in futures)
