"""A password file that others may read is not used, and the warning about it has the form of all others."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from infra.connections.password_file import without_open_password_file
from tests.support.programs import BIN
from tests.support.servers import Servers


@pytest.fixture
def password_file(tmp_path: Path, servers: Servers) -> Path:
    """The password of the database, in a file that only its owner may read."""
    options = conninfo_to_dict(servers.settings.database)
    file = tmp_path / "pgpass"
    file.write_text(f"*:*:*:*:{options['password']}\n")
    file.chmod(0o600)
    return file


def run(servers: Servers, env: dict[str, str], **more: str) -> tuple[int, list[str]]:
    """The exit code and the lines on standard error of a command that connects without a password in its URL."""
    options = conninfo_to_dict(servers.settings.database)
    url = "postgresql://{user}@{host}:{port}/{dbname}".format(**options)
    variables = env | {"SPILLWAY_DATABASE_URL": url, "SPILLWAY_LOG_FORMAT": "json"} | more
    argv = [BIN / "spillway", "quarantine", "list"]
    done = subprocess.run(argv, env=variables, capture_output=True, text=True, timeout=240)
    return done.returncode, done.stderr.splitlines()


def test_a_file_of_its_owner_is_used(servers: Servers, env: dict[str, str], password_file: Path) -> None:
    assert run(servers, env, PGPASSFILE=str(password_file)) == (0, [])


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_warning_about_an_open_file_is_a_line_of_json(
    servers: Servers, env: dict[str, str], password_file: Path, mode: int
) -> None:
    password_file.chmod(mode)
    _, lines = run(servers, env, PGPASSFILE=str(password_file))
    messages = [(line["level"], line["message"]) for line in map(json.loads, lines)]
    (warning,) = (message for level, message in messages if level == "warning")
    assert f"the password file {password_file}: expected a file that only its owner may read, found -rw" in warning
    assert f"chmod 600 {password_file}" in warning


def test_the_file_is_left_out_only_if_libpq_would_ignore_it(
    monkeypatch: pytest.MonkeyPatch, password_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    url = f"postgresql://u@h/d?passfile={password_file}"
    assert without_open_password_file(url) == url
    password_file.chmod(0o644)
    found = conninfo_to_dict(without_open_password_file(url))
    assert found == conninfo_to_dict(url) | {"passfile": "/dev/null/none"}
    assert not Path(str(found["passfile"])).exists()
    without_open_password_file(url)
    assert capsys.readouterr().err.count("chmod 600") == 1
    for unread in (url.replace("u@", "u:p@"), f"postgresql://u@h/d?passfile={password_file}.none", "postgresql://[::1"):
        assert without_open_password_file(unread) == unread
    password_file.chmod(0o600)  # without a restart
    assert without_open_password_file(url) == url
