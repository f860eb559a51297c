"""Whether the user has a Prefect server is found out as Prefect does, but without importing it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import Settings

from flows.prefect_server import has_prefect_server

URL = "http://127.0.0.1:4200/api"
OTHER = "http://other:4200/api"
PROFILES = f"""
active = "{{active}}"
[profiles.ephemeral]
PREFECT_SERVER_ALLOW_EPHEMERAL_MODE = "true"
[profiles.local]
PREFECT_API_URL = "{URL}"
[profiles.none]
PREFECT_LOGGING_LEVEL = "INFO"
"""
# Files below the home and the working directory, which are one folder, and variables.
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "nothing": ({}, {}),
    "a variable": ({}, {"PREFECT_API_URL": URL}),
    "an empty variable": ({".prefect/profiles.toml": PROFILES.format(active="local")}, {"PREFECT_API_URL": ""}),
    "a profile with one": ({".prefect/profiles.toml": PROFILES.format(active="local")}, {}),
    "a profile without one": ({".prefect/profiles.toml": PROFILES.format(active="none")}, {}),
    "the profile of a new user": ({".prefect/profiles.toml": PROFILES.format(active="ephemeral")}, {}),
    "a profile of a variable": (
        {".prefect/profiles.toml": PROFILES.format(active="none")},
        {"PREFECT_PROFILE": "local"},
    ),
    "a profile that Prefect comes with": ({}, {"PREFECT_PROFILE": "local"}),
    "a profile elsewhere": (
        {"mine.toml": PROFILES.format(active="local")},
        {"PREFECT_PROFILES_PATH": "mine.toml"},
    ),
    "a home elsewhere": ({"home/profiles.toml": PROFILES.format(active="local")}, {"PREFECT_HOME": "home"}),
    ".env": ({".env": f"# servers\nPREFECT_API_URL={URL}\n"}, {}),
    ".env of something else": ({".env": "SPILLWAY_RETRIES=1\n"}, {}),
    "prefect.toml": ({"prefect.toml": f'[api]\nurl = "{URL}"\n'}, {}),
    "prefect.toml of something else": ({"prefect.toml": '[logging]\nlevel = "INFO"\n'}, {}),
    "pyproject.toml": ({"pyproject.toml": f'[tool.prefect.api]\nurl = "{URL}"\n'}, {}),
    "pyproject.toml of something else": ({"pyproject.toml": "[tool.ruff]\nline-length = 80\n"}, {}),
}
FOUND = {"a variable", "a profile with one", "a profile of a variable", "a profile that Prefect comes with",
         "a profile elsewhere", "a home elsewhere", ".env", "prefect.toml", "pyproject.toml"}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_answer_is_that_of_prefect(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, variables = CASES[case]
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    of_prefect = _of_new_process() if ".prefect/profiles.toml" in files else bool(Settings().api.url)
    assert of_prefect == (case in FOUND)
    assert has_prefect_server() == (case in FOUND)


def _of_new_process() -> bool:
    """Prefect's answer, whose default home is known when it is imported."""
    code = "from prefect.settings import get_current_settings; print(bool(get_current_settings().api.url))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip() == "True"


def test_a_command_without_a_prefect_server_does_not_import_prefect(tmp_path: Path) -> None:
    """Nor pandas: each would take longer than a drain that finds nothing."""
    code = """
import sys
from flows.cli.run import _find
from flows.prefect_server import has_prefect_server
import flows.cli.main
assert not has_prefect_server()
for name in ("drain", "redrive", "reconcile", "maintain", "backfill"):
    _find("flows.plain", name)
    assert not {"prefect", "pandas"} & set(sys.modules), name
"""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True, timeout=120)
