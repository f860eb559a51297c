"""Rules of this repository that no linter checks."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

from infra.servers.choose import ENGINES
from infra.settings import PROJECT_ROOT
from tests.mutants.unit_tests import listed_modules, unit_tests_of

MOST_LINES = 300
_WITHOUT_CODE = ("__init__.py", "extracted_values.py", "wire.py", "column_type.py")  # or tested with others only


def python_files() -> list[Path]:
    """The Python files of the project, without what git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, check=True, text=True).stdout
    return [PROJECT_ROOT / name for name in listed.split("\0") if name and (PROJECT_ROOT / name).exists()]


def imported_modules(path: Path) -> list[str]:
    """The names that a file imports, each with its module."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found += [f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def test_no_test_imports_from_another_test_or_conftest() -> None:
    wrong = [
        f"{path.relative_to(PROJECT_ROOT)}: {module}"
        for path in python_files()
        for module in imported_modules(path)
        if module.startswith(("tests.", "."))
        if any(part == "conftest" or part.startswith("test_") for part in module.split("."))
    ]
    assert not wrong, "move what they share to tests/support"


def test_no_file_is_longer_than_300_lines() -> None:
    lengths = {str(path.relative_to(PROJECT_ROOT)): len(path.read_text().splitlines()) for path in python_files()}
    assert not {name: length for name, length in lengths.items() if length > MOST_LINES}, "split them"


def test_every_file_that_contributing_names_exists() -> None:
    text = (PROJECT_ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:flows|tasks|infra|tests|docs|benchmarks)/[\w./-]*|[\w.-]+\.(?:md|toml|lock))`", text))
    assert len(named) > 20
    assert not [name for name in sorted(named) if not (PROJECT_ROOT / name).exists()]


def test_the_gate_asks_engines_what_they_can_answer() -> None:
    """Its Python is in a shell script, where no type checker sees a method that has another name by now."""
    asked = re.findall(r"ENGINES\['\$1'\]\(settings\(\)\)\.(\w+)\(\)", (PROJECT_ROOT / ".ci/run").read_text())
    assert asked
    assert all(callable(getattr(engine, name, None)) for engine in ENGINES.values() for name in asked)


def test_every_module_that_can_have_mutants_has_unit_tests() -> None:
    """`make mutants` names them: every module that is listed, and all others of the pure folders."""
    folders = ("tasks/columns", "tasks/columns/types", "infra/mapping")
    modules = {f"{folder}/{path.name}" for folder in folders for path in (PROJECT_ROOT / folder).glob("*.py")}
    modules = {module for module in modules if not module.endswith(_WITHOUT_CODE)} | set(listed_modules())
    assert len(modules) > 40
    named = {name for module in modules for name in (module, *unit_tests_of(module))}
    assert not [name for name in sorted(named) if not (PROJECT_ROOT / name).is_file()]
