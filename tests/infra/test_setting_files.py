"""A setting can be in a file, as Docker and Kubernetes give secrets: `SPILLWAY_DATABASE_URL_FILE`."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors.exceptions import WrongUse
from infra.settings import Settings, settings

URL = "postgresql://etl:pa%40ss@db.example.com/analytics"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no setting in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SPILLWAY_{name.upper()}", raising=False)
    settings.cache_clear()
    return tmp_path


def secret(folder: Path, content: bytes) -> str:
    (folder / "secret").write_bytes(content)
    return str(folder / "secret")


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"], ids=["no line end", "a line end", "a line end of Windows"])
def test_a_setting_is_read_from_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    monkeypatch.setenv("SPILLWAY_DATABASE_URL_FILE", secret(folder, URL.encode() + end))
    assert settings().database == URL


def test_every_setting_can_be_in_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLWAY_SCHEDULED_STREAMS_FILE", secret(folder, b"web,shop\n"))
    assert settings().scheduled_streams == ("web", "shop")


def test_the_file_may_be_named_in_env(folder: Path) -> None:
    (folder / ".env").write_text(f"SPILLWAY_DATABASE_URL_FILE={secret(folder, URL.encode())}\n")
    assert settings().database == URL


def test_a_variable_of_the_environment_wins_over_a_file_that_env_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text(f"SPILLWAY_DATABASE_URL_FILE={secret(folder, b'postgresql://other/other')}\n")
    monkeypatch.setenv("SPILLWAY_DATABASE_URL", URL)
    assert settings().database == URL


def test_a_value_and_a_file_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLWAY_DATABASE_URL_FILE", secret(folder, URL.encode()))
    monkeypatch.setenv("SPILLWAY_DATABASE_URL", "postgresql://db.example.com/other")
    with pytest.raises(WrongUse, match=r"SPILLWAY_DATABASE_URL: expected a value or a file, found both"):
        settings()


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "No such file"), (b"x" * 100_000, "at most 65,536 bytes"), (b"\xff", "UTF-8")],
    ids=["absent", "too large", "not text"],
)
def test_a_file_that_cannot_be_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, why: str
) -> None:
    path = str(folder / "secret") if content is None else secret(folder, content)
    monkeypatch.setenv("SPILLWAY_REDIS_URL_FILE", path)
    with pytest.raises(WrongUse, match=f"SPILLWAY_REDIS_URL_FILE: {path}: .*{why}.*; nothing was read"):
        settings()


def test_an_invalid_url_in_a_file_is_refused_without_its_password(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPILLWAY_DATABASE_URL_FILE", secret(folder, b"postgresql://etl:topsecret@a@b/analytics"))
    with pytest.raises(WrongUse, match="SPILLWAY_DATABASE_URL: expected a URL like postgresql://") as refused:
        settings()
    assert "topsecret" not in str(refused.value)


def test_a_misspelled_variable_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLWAY_DATABSE_URL_FILE", "/run/secrets/url")
    with pytest.raises(WrongUse, match="did you mean SPILLWAY_DATABASE_URL_FILE"):
        settings()
