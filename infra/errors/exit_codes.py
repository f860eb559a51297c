"""The exit codes of the commands, for a cron job to alert on."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """`meaning`: its text in `spillway --help`. What to do is in docs/operations.md."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        one = int.__new__(cls, code)
        one._value_ = code
        one.meaning = meaning
        return one

    OK = 0, "all is well"
    FAILED = 1, "a failure: the error says whether to run the command again"
    WRONG_USE = 2, "wrong arguments or settings"
    LOST = 3, "entries are lost: a drain has just recorded them, or reconcile found a loss that was not accepted"
    NOTHING_REDRIVEN = 4, "a redrive in which no entry succeeded"
    INTERRUPTED = 130, "interrupted (Ctrl-C)"


def exit_code_lines() -> list[str]:
    """One line for each code."""
    return [f"{code.value}: {code.meaning}" for code in ExitCode]
