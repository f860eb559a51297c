"""The command line, for the tests of what it prints."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from infra import cli
from infra.settings import settings

Spillway = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command_line(env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Spillway:
    """Run the command line in this process: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        settings.cache_clear()
        monkeypatch.setattr("sys.argv", ["spillway", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        said = capfd.readouterr()
        return int(exit_.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def spillway(prefect_server: str, command_line: Spillway) -> Spillway:
    """The same, with a Prefect server."""
    return command_line
