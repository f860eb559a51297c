"""Variables `SPILLWAY_…` that are not settings: a misspelled name would silently change nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from infra.setting_files import SUFFIX

# Read by `flows.cli.main` even if the settings are invalid; and those of infra/compose.production.yaml, which may be
# set in the shell in which somebody types commands.
_OF_COMPOSE = ("IMAGE", "LOG_DRIVER", "SECRETS", "WORKER_LIMIT")
OTHER_VARIABLES = {"SPILLWAY_DEBUG", *(f"SPILLWAY_{name}" for name in _OF_COMPOSE)}
_TEST_PREFIX = "SPILLWAY_TEST_"
_ENV_LINE = re.compile(r"^\s*(?:export\s+)?(\w+)\s*=", re.MULTILINE)


def unknown_variables(settings: Iterable[str], env_file: Path) -> Iterator[str]:
    """A fault for each variable `SPILLWAY_…` of the environment or of `.env` that is not one of the settings."""
    known = {f"SPILLWAY_{name.upper()}{end}" for name in settings for end in ("", SUFFIX)} | OTHER_VARIABLES
    lines = env_file.read_text("utf-8", "replace") if env_file.is_file() else ""
    for name in sorted({*os.environ, *_ENV_LINE.findall(lines)}):
        variable = name.upper()
        if variable in known or not variable.startswith("SPILLWAY_") or variable.startswith(_TEST_PREFIX):
            continue
        near = get_close_matches(variable, known, 1, 0.8)
        yield f"{ascii(name)[1:-1]}: no such setting" + (f", did you mean {near[0]}?" if near else "")
