"""Real events and real rows: samples in tests/data, and large files next to the clone."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from infra.settings import PROJECT_ROOT

_SAMPLES = PROJECT_ROOT / "tests" / "data"
_LARGE = PROJECT_ROOT.parent / "shared" / "data" / "crossref"


def sample_events() -> bytes:
    """2,737 real events as NDJSON, 2,654 of them different: see tests/data/README.md."""
    return gzip.decompress((_SAMPLES / "crossref_sample.ndjson.gz").read_bytes())


def weather(rows: int) -> list[dict[str, str]]:
    """The first rows of real hourly weather, 2,000 at most; "NA" is a missing value."""
    with gzip.open(_SAMPLES / "weather_sample.csv.gz", "rt") as file:
        found = list(csv.DictReader(file))
    assert len(found) >= rows
    return found[:rows]


def large_file(name: str) -> Path:
    """A large file of real events. Skips the test if it is not next to the clone."""
    path = _LARGE / name
    if not path.exists():
        pytest.skip(f"the large file of real events is not here: {path}")
    return path
