"""Real events."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.settings import PROJECT_ROOT

DATA = PROJECT_ROOT.parent / "shared" / "data" / "crossref"


def real_events(name: str) -> Path:
    """A file of real events; the test is skipped where it is not there."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the real events are not here: {path}")
    return path
