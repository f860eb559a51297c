"""Settings: where they come from, and how invalid ones are reported."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from infra.errors.exceptions import Terminal
from infra.setting_names import OTHER_VARIABLES
from infra.settings import PROJECT_ROOT, Settings, host_of, settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, and settings that are read again."""
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def test_without_any_setting_the_local_servers_are_used() -> None:
    found = settings()
    assert found.redis == "redis://127.0.0.1:6379/0"
    assert found.database == "postgresql://analytics_user:analytics_pass@127.0.0.1:5432/analytics"
    assert not found.external
    assert found is settings()


def test_the_ports_apply_to_the_local_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLWAY_REDIS_PORT", "7001")
    monkeypatch.setenv("SPILLWAY_POSTGRES_PORT", "7002")
    assert settings().redis == "redis://127.0.0.1:7001/0"
    assert "@127.0.0.1:7002/" in settings().database
    assert not settings().external


@pytest.mark.parametrize(("name", "scheme"), [("SPILLWAY_REDIS_URL", "redis"), ("SPILLWAY_DATABASE_URL", "postgresql")])
def test_one_url_is_enough_to_make_the_servers_external(
    name: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, f"{scheme}://u:secret@host:1/0")
    assert settings().external
    assert f"{scheme}://u:secret@host:1/0" in (settings().redis, settings().database)
    monkeypatch.setenv(name, "")
    settings.cache_clear()
    assert not settings().external


def test_a_variable_overrides_the_env_file_which_overrides_the_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("SPILLWAY_BATCH_ROWS=11\nSPILLWAY_RETRIES=3\nOTHER=1\n")
    monkeypatch.setenv("SPILLWAY_RETRIES", "4")
    assert (settings().batch_rows, settings().retries, settings().parallel_loads) == (
        11,
        4,
        min(4, max(2, len(os.sched_getaffinity(0)))),
    )


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("SPILLWAY_BATCH_ROW", "no such setting, did you mean SPILLWAY_BATCH_ROWS?"),
        ("SPILLWAY_MAPPING", "no such setting, did you mean SPILLWAY_MAPPINGS?"),
        ("SPILLWAY_DATABASEURL", "no such setting, did you mean SPILLWAY_DATABASE_URL?"),
        ("spillway_Retry", "no such setting, did you mean SPILLWAY_RETRIES?"),
        ("SPILLWAY_UNKNOWN", "no such setting"),
    ],
)
@pytest.mark.parametrize("line", ["{}=secret", "export {}=secret", " {} = 'secret'", None])
def test_an_unknown_variable_is_refused_with_the_nearest_setting(
    name: str, advice: str, line: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if line is None:
        monkeypatch.setenv(name, "secret")
    else:
        (folder / ".env").write_text(f"# {name}X=1\n\n{line.format(name)}\nOTHER=1\n")
    monkeypatch.setenv("SPILLWAY_RETRIES", "x")
    with pytest.raises(Terminal) as refused:
        settings()
    assert f"{name}: {advice}" in str(refused.value)
    assert "SPILLWAY_RETRIES: " in str(refused.value)
    assert "secret" not in str(refused.value)
    assert f"{name}X" not in str(refused.value)


def test_variables_that_are_read_elsewhere_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPILLWAY_DEBUG", "SPILLWAY_TEST_ENGINE", "SPILLWAY_TEST_ANYTHING", "XSPILLWAY_X", "spillway_retries"):
        monkeypatch.setenv(name, "1")
    assert settings().retries == 1


def test_every_variable_in_the_code_is_a_setting_or_accepted() -> None:
    read = {
        name
        for path in PROJECT_ROOT.glob("[!.]*/**/*")
        if path.suffix in (".py", ".yaml", ".yml", ".toml") and "tests" not in path.parts
        for name in re.findall(r"SPILLWAY_[A-Z_]*[A-Z]\b", path.read_text())
    }
    known = {f"SPILLWAY_{name.upper()}{end}" for name in Settings.model_fields for end in ("", "_FILE")}
    assert {name for name in read - known if not name.startswith("SPILLWAY_TEST")} == OTHER_VARIABLES


def test_a_relative_path_is_one_in_the_project_wherever_a_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings().mappings == PROJECT_ROOT / "spillway.toml"
    for name in ("SPILLWAY_MAPPINGS", "SPILLWAY_ARCHIVE_URL", "SPILLWAY_STATE_DIR"):
        monkeypatch.setenv(name, "here/x")
    settings.cache_clear()
    found = settings()
    assert (found.mappings, found.archive_url, found.state_dir) == (
        PROJECT_ROOT / "here/x",
        str(PROJECT_ROOT / "here/x"),
        PROJECT_ROOT / "here/x",
    )
    for url in ("/srv/archive", "s3://bucket/archive", "file:///srv/archive", ""):
        monkeypatch.setenv("SPILLWAY_ARCHIVE_URL", url)
        settings.cache_clear()
        assert settings().archive_url == url
    monkeypatch.setenv("SPILLWAY_MAPPINGS", "~/maps.toml")
    settings.cache_clear()
    assert settings().mappings == Path.home() / "maps.toml"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SPILLWAY_BATCH_ROWS", "0"),
        ("SPILLWAY_BATCH_ROWS", "many"),
        ("SPILLWAY_BATCH_BYTES", "1"),
        ("SPILLWAY_PARALLEL_LOADS", "33"),
        ("SPILLWAY_REDIS_PORT", "65536"),
        ("SPILLWAY_POSTGRES_PORT", "x"),
        ("SPILLWAY_INSTANCE", "Über"),
        ("SPILLWAY_CONNECT_TIMEOUT", "-1"),
        ("SPILLWAY_STATEMENT_TIMEOUT", "0"),
        ("SPILLWAY_RETRIES", "-1"),
        ("SPILLWAY_MAX_AGE_DAYS", "0"),
        ("SPILLWAY_MAX_AHEAD_DAYS", "-0.5"),
        ("SPILLWAY_COMPRESS_AFTER", "7"),
        ("SPILLWAY_COMPRESS_AFTER", "0d"),
        ("SPILLWAY_COMPRESS_SEGMENTBY", "colour"),
        ("SPILLWAY_COMPRESS_SEGMENTBY", "event_type,"),
        ("SPILLWAY_COMPRESS_ORDERBY", "time SIDEWAYS"),
        ("SPILLWAY_COMPRESS_ORDERBY", "time; DROP TABLE events"),
        ("SPILLWAY_KEEP", "soon"),
        ("SPILLWAY_KEEP", "0h"),
        ("SPILLWAY_RETENTION", "never"),
        ("SPILLWAY_ARCHIVE_AFTER", "1w"),
    ],
)
def test_an_invalid_value_is_reported_in_one_line_with_its_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("SPILLWAY_DATABASE_URL", "postgresql://u:secret@h/d")
    with pytest.raises(Terminal) as refused:
        settings()
    message = str(refused.value)
    assert f"{name}: " in message
    assert repr(value) in message
    assert "\n" not in message
    assert "secret" not in message


def test_all_invalid_values_are_reported_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("SPILLWAY_RETRIES=x\n")
    monkeypatch.setenv("SPILLWAY_BATCH_ROWS", "y")
    with pytest.raises(Terminal, match=r"SPILLWAY_BATCH_ROWS.*SPILLWAY_RETRIES"):
        settings()


def test_printed_settings_contain_no_password() -> None:
    found = Settings(redis_url="redis://:secret@h/0", database_url="postgresql://u:secret@h/d", _env_file=None)
    for text in (repr(found), str(found), str(found.model_dump()), found.model_dump_json()):
        assert "secret@" not in text


def test_settings_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings().retries = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("redis://127.0.0.1:6379/0", "127.0.0.1:6379"),
        ("postgresql://u:secret@h:5432/d", "h:5432"),
        ("postgresql://u:s@secret@h/d", "the server"),
        ("postgresql://u:sec/ret@h/d", "the server"),
        ("redis://:sec[ret@h:6379/0", "the server"),
        ("redis://:s@secret@h:6379/0", "h:6379"),
        ("postgresql://u:secret@[::1]:5432/d", "[::1]:5432"),
        ("postgresql:///d", "localhost"),
    ],
)
def test_a_server_is_named_by_host_and_port_only(url: str, host: str) -> None:
    assert host_of(url) == host


def test_a_duration_is_a_number_with_a_unit_and_an_empty_one_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (settings().compress_after, settings().keep) == (timedelta(days=7), None)
    monkeypatch.setenv("SPILLWAY_COMPRESS_AFTER", "")
    monkeypatch.setenv("SPILLWAY_KEEP", "36h")
    settings.cache_clear()
    assert (settings().compress_after, settings().keep) == (None, timedelta(hours=36))


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_importing_the_flows_reads_no_setting(folder: Path) -> None:
    """Not even an invalid one: a typo is reported by the command, not by a failed import."""
    (folder / ".env").write_text("SPILLWAY_RETRIES=x\n")
    code = "import flows.drain, flows.backfill, flows.maintain, flows.reconcile, flows.redrive, flows.cli.main"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
