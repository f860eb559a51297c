"""A pseudo-terminal of a given size that shows what a command prints, as a person sees it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pexpect

from infra.settings import PROJECT_ROOT
from tests.support.programs import BIN
from tests.support.several_commands import END

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SECONDS = 240


@dataclass(frozen=True)
class Screen:
    """What a command printed. `raw`: with escape sequences. `code`: its exit code."""

    raw: str
    code: int

    @property
    def lines(self) -> list[str]:
        """The lines without escape sequences."""
        return _ESCAPES.sub("", self.raw).replace("\r\n", "\n").rstrip("\n").split("\n")


def on_screen(env: Mapping[str, str], *arguments: str, columns: int = 80, lines: int = 24, **more: str) -> Screen:
    """Run a command of Spillway in a terminal of this size and wait for its end. `more`: variables."""
    raw, code = _typed(env, [str(BIN / "spillway"), *arguments], columns, lines, more)
    return Screen(raw, code)


def on_screens(env: Mapping[str, str], commands: Sequence[Sequence[str]], columns: int, **more: str) -> list[Screen]:
    """Run several commands in one process, each in this terminal."""
    driver = [sys.executable, "-m", "tests.support.several_commands", json.dumps(commands)]
    raw, _ = _typed(env, driver, columns, 24, more)
    pieces = raw.split(END)
    assert len(pieces) == 2 * len(commands) + 1, raw[-3000:]
    return [Screen(text, int(code)) for text, code in zip(pieces[::2], pieces[1::2], strict=False)]


def _typed(
    env: Mapping[str, str], command: list[str], columns: int, lines: int, more: Mapping[str, str]
) -> tuple[str, int]:
    environment = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
    child: pexpect.spawn[bytes] = pexpect.spawn(
        command[0], command[1:], env={**environment, "TERM": "xterm-256color", **more}, cwd=str(PROJECT_ROOT),
        dimensions=(lines, columns), timeout=_SECONDS,
    )  # fmt: skip
    child.expect(pexpect.EOF)
    child.close()
    return (child.before or b"").decode(errors="replace"), child.exitstatus or 0
