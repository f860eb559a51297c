"""A setting can be in a file, as Docker and Kubernetes give secrets: `SPILLWAY_DATABASE_URL_FILE`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from infra.errors.exceptions import WrongUse
from infra.settings import Settings, settings
from tests.support.programs import BIN

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


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"  \t", b" \n \n"])
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
    [
        (None, "No such file"),
        (b"x" * 100_000, "at most 65,536 bytes"),
        (b"\xff", "UTF-8"),
        (b"", "expected a value, found an empty file"),
        (b" \r\n\n", "expected a value, found an empty file"),
    ],
    ids=["absent", "too large", "not text", "empty", "blank"],
)
def test_a_file_that_cannot_be_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, why: str
) -> None:
    path = str(folder / "secret") if content is None else secret(folder, content)
    monkeypatch.setenv("SPILLWAY_REDIS_URL_FILE", path)
    with pytest.raises(
        WrongUse, match=f"SPILLWAY_REDIS_URL_FILE: {path}: .*{why}.*; nothing was started; fill or mount"
    ):
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


@pytest.mark.parametrize(
    ("command", "variable", "content", "found"),
    [
        ("health", "SPILLWAY_DATABASE_URL_FILE", b"", "found an empty file"),
        ("health", "SPILLWAY_REDIS_URL_FILE", b"\n\n", "found an empty file"),
        ("drain", "SPILLWAY_DATABASE_URL_FILE", b"", "found an empty file"),
        ("health", "SPILLWAY_DATABASE_URL_FILE", b"postgresql://etl:topsecret@[::1/a", "SPILLWAY_DATABASE_URL"),
        ("drain", "SPILLWAY_DATABASE_URL_FILE", b"postgresql://u:topsecret@127.0.0.1:1/a\nb", "SPILLWAY_DATABASE_URL"),
        ("drain", "SPILLWAY_REDIS_URL_FILE", b"redis://:topsecret@127.0.0.1:1/0\nredis://b", "SPILLWAY_REDIS_URL"),
        ("drain", "SPILLWAY_REDIS_URL_FILE", b"topsecret", "SPILLWAY_REDIS_URL"),
    ],
)
def test_a_file_without_a_valid_url_is_wrong_use_of_every_command(
    folder: Path, command: str, variable: str, content: bytes, found: str
) -> None:
    path = secret(folder, content)
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("SPILLWAY_", "PREFECT_"))}
    argv = [str(BIN / "spillway"), command, *(["--stream", "s"] if command == "drain" else [])]
    done = subprocess.run(argv, env=plain | {variable: path}, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2, done.stdout + done.stderr
    assert found in done.stderr
    assert "topsecret" not in done.stderr
