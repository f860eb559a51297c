"""A sample is spread over a stream or a file, and bounded."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import redis

from infra.connections.clients import Clients
from infra.settings import settings
from tasks.columns.entries import EntryColumns
from tasks.mapping.read_sample import find_file, is_file, sample_file, sample_stream


def values(groups: list[EntryColumns]) -> list[int]:
    return sorted(int(value) for group in groups for value in group.column(b"n").to_pylist())


def sample_of(stream: str, most: int) -> list[EntryColumns]:
    """As the command reads it: its client does not convert replies."""
    with Clients(settings()) as clients:
        return sample_stream(clients.redis, stream, most)


def test_rows_of_a_file_are_evenly_spaced(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("n\n" + "".join(f"{n}\n" for n in range(10_000)))
    found = values(sample_file(find_file(str(path)), 100).groups)
    assert 50 <= len(found) <= 100
    assert (found[0], found[-1] > 9_800) == (0, True)
    assert len({later - earlier for earlier, later in pairwise(found)}) == 1
    assert values(sample_file(find_file(str(path)), 10_000).groups) == list(range(10_000))


def test_one_large_row_is_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.mapping.read_sample._MOST_BYTES", 10)
    path = tmp_path / "x.csv"
    path.write_text("n\n" + "1" * 1_000 + "\n")
    assert len(values(sample_file(find_file(str(path)), 100).groups)) == 1


def test_entries_of_a_stream_are_spread_over_its_ids(redis_client: redis.Redis) -> None:
    with redis_client.pipeline() as pipeline:
        for n in range(4_000):
            pipeline.xadd("s", {"n": n}, id=f"{1_795_000_000_000 + n * 1_000}-0")
        pipeline.execute()
    found = values(sample_of("s", 400))
    assert len(found) == len(set(found)) == 400
    assert [sum(part * 500 <= n < part * 500 + 500 for n in found) for part in range(8)] == [50] * 8
    assert found[-50:] == list(range(3_950, 4_000))
    assert values(sample_of("s", 4_000)) == list(range(4_000))


def test_the_newest_entries_are_sampled_however_few_they_are(redis_client: redis.Redis) -> None:
    """A producer that was changed a moment ago, after a year."""
    for n in range(3_000):
        redis_client.xadd("s", {"n": n}, id=f"{1_764_000_000_000 + n * 10_000_000}-0")
    for n in range(3_000, 3_005):
        redis_client.xadd("s", {"n": n, "large": "x" * (n - 2_999) * 400_000}, id=f"1795000000000-{n}")
    found = values(sample_of("s", 400))
    assert found[-5:] == list(range(3_000, 3_005))
    assert len(found) == len(set(found)) == 400


def test_entries_at_one_moment_are_read_once(redis_client: redis.Redis) -> None:
    for n in range(100):
        redis_client.xadd("s", {"n": n}, id=f"1795000000000-{n}")
    found = values(sample_of("s", 80))
    assert len(found) == len(set(found)) == 80


def test_a_name_is_a_file_only_if_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "orders"
    assert not is_file(str(path))
    path.touch()
    assert is_file(str(path))
    assert is_file("s3://bucket/x.csv")
    assert not is_file(str(tmp_path))
