"""Mutation testing of one pure module: make mutants MODULE=tasks/columns/times.py

Cosmic Ray changes one operator, condition or number at a time in a copy of the working tree, and runs the unit tests of
the module. A change that no test notices survives, and is printed: a test is missing, or the change has no effect.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from infra.settings import PROJECT_ROOT
from tests.mutants.unit_tests import unit_tests_of

_MINUTES = 15  # for all mutants of the module; a report of those that were run follows
_TEST_SECONDS = 60  # for one mutant; a longer run is an endless loop, and counts as killed
_CONFIG = """
[cosmic-ray]
module-path = {module}
timeout = {seconds}
excluded-modules = []
test-command = {command}
[cosmic-ray.distributor]
name = "local"
[cosmic-ray.filters.operators-filter]
exclude-operators = ["core/ReplaceBinaryOperator_BitOr_.*"]  # nearly all of them are `|` in annotations
"""


def main(module: str) -> None:
    tests = unit_tests_of(module)
    absent = [name for name in (module, *tests) if not (PROJECT_ROOT / name).is_file()]
    if absent:
        sys.exit(
            f"error: mutants of {module}: expected a module and its unit tests, found no {', '.join(absent)};"
            " nothing was run; make mutants MODULE=tasks/columns/times.py"
        )
    with tempfile.TemporaryDirectory(prefix="spillway-mutants-") as folder:
        copy = Path(folder, "copy")
        shutil.copytree(PROJECT_ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        pytest = f"{sys.executable} -m pytest -q -x --noconftest -p no:cacheprovider --hypothesis-seed=0"
        command = json.dumps(f"{pytest} {' '.join(tests)}")
        Path(copy, "mutants.toml").write_text(
            _CONFIG.format(module=json.dumps(module), seconds=_TEST_SECONDS, command=command)
        )
        _run(copy, "cosmic-ray", "baseline", "mutants.toml")
        _run(copy, "cosmic-ray", "init", "mutants.toml", "session")
        _run(copy, "cr-filter-operators", "session", "mutants.toml")
        try:
            _run(copy, "cosmic-ray", "exec", "mutants.toml", "session", minutes=_MINUTES)
        except subprocess.TimeoutExpired:
            print(f"stopped after {_MINUTES} minutes")
        _run(copy, "cr-report", "--surviving-only", "--show-diff", "session")


def _run(folder: Path, program: str, *arguments: str, minutes: int | None = None) -> None:
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    subprocess.run(command, cwd=folder, check=True, timeout=minutes and minutes * 60)


if __name__ == "__main__":
    main(sys.argv[1])
