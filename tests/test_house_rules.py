"""Rules of this repository that no linter checks."""

from __future__ import annotations

import ast
from pathlib import Path

from infra.settings import PROJECT_ROOT


def imported_modules(path: Path) -> list[str]:
    """The modules that a file imports, also those of `from package import module`."""
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
        for path in sorted((PROJECT_ROOT / "tests").rglob("*.py"))
        for module in imported_modules(path)
        if module.startswith(("tests.", "."))
        if any(part == "conftest" or part.startswith("test_") for part in module.split(".")[:-1])
    ]
    assert not wrong, "move what they share to tests/support"
