"""Which file spillway.toml is, and the clause for a stream that it does not map."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors.exceptions import WrongUse
from infra.mapping.stream_mapping import BUILT_IN
from infra.mapping.toml import configured_mappings, explain_no_mapping
from infra.settings import Settings, settings_folder


def test_only_a_mapping_file_that_the_settings_name_has_to_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(WrongUse) as refused:
        configured_mappings(Settings(mappings=missing, _env_file=None))
    assert str(refused.value) == (
        f"SPILLWAY_MAPPINGS: expected a file, found nothing at {missing} (relative paths start at {settings_folder()});"
        " nothing was read; correct the variable or its line in .env"
    )
    there = tmp_path / "there.toml"
    there.write_text("[streams.abc]\n")
    assert configured_mappings(Settings(mappings=there, _env_file=None)).for_stream("abc").name == "abc"
    monkeypatch.delenv("SPILLWAY_MAPPINGS", raising=False)
    unnamed = Settings(_env_file=None)
    monkeypatch.setitem(unnamed.__dict__, "mappings", missing)
    assert configured_mappings(unnamed).for_stream("abc") is BUILT_IN


def test_a_stream_without_a_mapping_is_explained_by_the_file(tmp_path: Path) -> None:
    path = tmp_path / "spillway.toml"
    assert explain_no_mapping(path) == f"{path} does not exist"
    path.write_text("")
    assert explain_no_mapping(path) == f"no table of {path} matches it"
