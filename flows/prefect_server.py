"""Whether the user has a Prefect server, found out without importing Prefect, which takes seconds."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

_URL = "PREFECT_API_URL"


def has_prefect_server() -> bool:
    """Whether Prefect's settings name a server: the environment, `.env`, `prefect.toml`, `pyproject.toml`, a profile.

    Prefect itself is asked if one of these cannot be read here.
    """
    if _URL in os.environ:
        return bool(os.environ[_URL])
    try:
        return _in_dotenv() or bool(_of_files() or _of_profile())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        from prefect.settings import get_current_settings

        return get_current_settings().api.url is not None


def _in_dotenv() -> bool:
    lines = _text(Path(".env")).splitlines()
    return any(line.strip().removeprefix("export ").upper().startswith(_URL) for line in lines)


def _of_files() -> str | None:
    of_project = _toml(Path("pyproject.toml")).get("tool", {}).get("prefect", {})
    url: str | None = _toml(Path("prefect.toml")).get("api", {}).get("url") or of_project.get("api", {}).get("url")
    return url


def _of_profile() -> str | None:
    """The server of the active profile. Those that Prefect comes with have none, but for the profile `local`."""
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    profiles = _toml(Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml").expanduser())
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
    if active is None or active == "ephemeral":
        return None
    url: str | None = profiles["profiles"][active].get(_URL)
    return url


def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(_text(path))


def _text(path: Path) -> str:
    """The text of a file; empty if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
