"""Real rows with columns of their own, and what a table must hold of them, by `csv` and `json` alone."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.settings import PROJECT_ROOT

_FOLDER = PROJECT_ROOT.parent / "shared" / "data"


def real_file(name: str) -> Path:
    """A file of real rows. Skips the test if it is not next to the clone."""
    path = _FOLDER / name
    if not path.exists():
        pytest.skip(f"the file of real rows is not here: {path}")
    return path


def csv_rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as file:
        yield from csv.DictReader(file)


def as_number(text: str) -> float | None:
    return None if text == "NA" else float(text)


def as_moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def earthquakes(path: Path) -> list[dict[str, Any]]:
    """The features of a GeoJSON document."""
    with gzip.open(path, "rt") as file:
        found: list[dict[str, Any]] = json.load(file)["features"]
    return found
