"""A bash that types the commands of a page, one after the other, as a reader would."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pexpect

_COMMAND_SECONDS = 240
_PROMPT = re.compile(rb"\[(\d+)\]READY> ")


class Terminal:
    """A bash in a pseudo-terminal of 200 columns, wide enough for every table, without colours."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        plain = {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "200", "LINES": "60", "LANG": "C.UTF-8"}
        # Without readline, which would wrap what is typed.
        self._bash = pexpect.spawn(
            "/bin/bash", ["--norc", "--noediting"], env={**environment, **plain}, cwd=str(folder), dimensions=(60, 200)
        )
        self._bash.sendline("stty -echo; PS1='[$?]''READY> '")
        self._bash.expect(_PROMPT, timeout=_COMMAND_SECONDS)

    def type(self, command: str) -> tuple[int, str]:
        """Type a command and wait until it ends; returns its exit code and all that it printed."""
        self._bash.sendline(command)
        self._bash.expect(_PROMPT, timeout=_COMMAND_SECONDS)
        assert isinstance(self._bash.match, re.Match)
        printed = (self._bash.before or b"").decode(errors="replace").replace("\r\n", "\n")
        return int(self._bash.match[1]), printed

    def close(self) -> None:
        """Hang up, as a window that is closed does."""
        self._bash.close(force=True)


_NUMBER = re.compile(r"\d[\d,]*(\.\d+)?")


def has_shape(printed: str, shown: str) -> bool:
    """Whether `printed` is what a page shows, apart from numbers, spaces and the length of lines; `…` is anything."""
    pieces = []
    for word in shown.split():
        parts = [re.escape(_NUMBER.sub("0", part)) for part in word.split("…")]
        pieces.append(re.sub("─+", "─+", ".*?".join(parts)))
    pattern = r"\s*" + r"\s*".join(pieces) + r"\s*"
    return re.fullmatch(pattern, _NUMBER.sub("0", printed), re.DOTALL) is not None
