"""The two workloads, each with the streams for its contenders."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson
import redis

from benchmarks.contenders import Workload
from infra.producers.broken import Entry
from infra.producers.generate import batches
from infra.producers.send import send
from infra.settings import PROJECT_ROOT, Settings

REAL = PROJECT_ROOT.parent / "shared/data/crossref/bench_arrival_2019-08_2019-12.ndjson.gz"


def flat(settings: Settings, events: int, duplicates: float = 0.0) -> Workload:
    """Generated events of about 200 bytes; some are repeated, evenly spread."""
    found = (entry for batch in batches(events, seed=1, duplicates=duplicates) for entry in batch.entries)
    return _sent(settings, f"bench-flat-{duplicates:g}", found)


def documents(settings: Settings, path: Path = REAL) -> Workload:
    """The real documents of about 1 kB, each once: a bare COPY accepts no repeated key."""
    return _sent(settings, "crossref-bench", _once_each(path))


def _once_each(path: Path) -> Iterator[Entry]:
    seen: set[str] = set()
    with gzip.open(path) as lines:
        for line in lines:
            event_id = orjson.loads(line)["id"]
            if event_id not in seen:
                seen.add(event_id)
                yield {b"data": line.rstrip(b"\n")}


def _sent(settings: Settings, stream: str, entries: Iterable[Entry]) -> Workload:
    with redis.Redis.from_url(settings.redis) as client:
        return Workload(settings, stream, send(client, stream, entries))
