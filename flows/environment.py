"""Prefect's settings, put into the environment before it is imported; and the folder in which a worker runs a flow."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infra.errors.exceptions import WrongUse
from infra.json_lines import use_json_lines
from infra.settings import PROJECT_ROOT, runs_from_clone

_PREFECT_TOML = Path(__file__).with_name("prefect.toml")


def prefect_defaults() -> dict[str, str]:
    """The settings of prefect.toml as environment variables.

    Prefect reads a prefect.toml only in the working directory. A temporary server that a command starts elsewhere gets
    the settings this way.
    """
    return dict(_variables("PREFECT", tomllib.loads(_PREFECT_TOML.read_text(encoding="utf-8"))))


def _variables(name: str, value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        variable = f"{name}_{key.upper()}"
        if isinstance(inner, Mapping) and any("." in name for name in inner):  # a setting whose value is a table
            yield variable, json.dumps(inner)
        elif isinstance(inner, Mapping):
            yield from _variables(variable, inner)
        else:
            yield variable, str(inner).lower() if isinstance(inner, bool) else str(inner)


def set_prefect_defaults(quiet: bool = False) -> None:
    """Set the environment variables of prefect.toml that are not set yet, and the form of log lines.

    `quiet`: hide Prefect's log.
    """
    for name, value in prefect_defaults().items():
        os.environ.setdefault(name, value)
    if quiet:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    use_json_lines()


def project_folder(deployed_from: str) -> dict[str, str]:
    """The pull step of the deployments: the folder in which a worker runs the flows of the Spillway that it has.

    That is the clone, if Spillway runs from one. If it is installed, it is `deployed_from`, the folder in which
    `spillway deploy` was typed: its `.env` and `spillway.toml` apply. A worker itself starts each run in an empty
    folder. Raises `WrongUse` if there is no such folder.
    """
    use_json_lines()
    if runs_from_clone():
        return {"directory": str(PROJECT_ROOT)}
    if not Path(deployed_from).is_dir():
        raise WrongUse(
            f"worker: expected the folder in which `spillway deploy` was typed, found no folder {deployed_from!r} on"
            " this machine; nothing was read; create it with your .env and spillway.toml, or type `spillway deploy` in"
            " a folder that every worker has"
        )
    return {"directory": deployed_from}
