"""A pseudo-terminal of a given size that shows what a command prints, as a person sees it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pexpect

from tests.support.programs import BIN

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SECONDS = 60


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
    environment = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
    child = pexpect.spawn(
        str(BIN / "spillway"), list(arguments), env={**environment, "TERM": "xterm-256color", **more},
        dimensions=(lines, columns), timeout=_SECONDS,
    )  # fmt: skip
    child.expect(pexpect.EOF)
    child.close()
    return Screen((child.before or b"").decode(errors="replace"), child.exitstatus or 0)
