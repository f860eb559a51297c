"""Where the programs of this environment are, and which options they have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

BIN = Path(sys.executable).parent
# `spillway` which gives its loads an hour after a signal: the test ends what they wait for, not a limit of seconds.
PATIENT_SPILLWAY = (
    sys.executable,
    "-c",
    "from tasks.base import workers; workers._GRACE_SECONDS = 3600; from flows.cli.main import main; main()",
)


def require_command(command: Sequence[str]) -> None:
    """Fail if `spillway` or `prefect` lacks a command or one of its options, as a file for production has them."""
    program, *arguments = command
    argv = [BIN / program, *arguments, "--help"]
    done = subprocess.run(argv, env=os.environ | {"COLUMNS": "200"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "usage" in done.stdout.lower()
    assert not [one for one in arguments if one.startswith("--") and f"{one} " not in done.stdout], done.stdout
