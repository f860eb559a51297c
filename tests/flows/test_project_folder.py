"""The folder in which a worker runs a flow. tests/test_installed_wheel.py waits for such runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import environment
from infra.errors.exceptions import WrongUse
from infra.settings import PROJECT_ROOT


def test_in_a_clone_it_is_the_clone_wherever_deploy_was_typed(tmp_path: Path) -> None:
    assert environment.project_folder(str(tmp_path)) == {"directory": str(PROJECT_ROOT)}


def test_in_an_installation_it_is_the_folder_in_which_deploy_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "runs_from_clone", lambda: False)
    assert environment.project_folder(str(tmp_path)) == {"directory": str(tmp_path)}
    with pytest.raises(WrongUse) as refused:
        environment.project_folder(str(tmp_path / "gone"))
    assert str(refused.value) == (
        "worker: expected the folder in which `spillway deploy` was typed, found no folder"
        f" '{tmp_path}/gone' on this machine; nothing was read; create it with your .env and spillway.toml, or type"
        " `spillway deploy` in a folder that every worker has"
    )
