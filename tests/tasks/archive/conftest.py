from __future__ import annotations

from pathlib import Path

import pytest

from tasks.archive.archive_root import ArchiveRoot, open_root


@pytest.fixture
def root(tmp_path: Path) -> ArchiveRoot:
    """An archive in a folder that is not there yet."""
    return open_root(str(tmp_path / "archive"))


@pytest.fixture
def folder(root: ArchiveRoot) -> Path:
    """The same place."""
    return Path(root.base)


@pytest.fixture(autouse=True)
def _hypertables(request: pytest.FixtureRequest) -> None:
    """Only chunks are archived."""
    if "servers" in request.fixturenames:
        request.getfixturevalue("hypertables")
