"""The exceptions that Spillway raises. Two roots decide about every retry: `Transient` is retried, `Terminal` is not.

`infra.errors.classify` decides which of the two an error of a server becomes.
"""

from __future__ import annotations

from typing import Any

import psycopg

from infra.display import printable
from infra.errors.exit_codes import ExitCode


class SpillwayError(Exception):
    """An error whose text is written for its reader: what failed, expected and found, what is safe, the next step.

    Control characters in the text are escaped, because Prefect logs it and shows it as the state of the run. `fault`:
    only what was expected and found, for another step that reports the error without failing; by default all of it.
    """

    exit_code = ExitCode.FAILED  # of a command that ends with this error

    def __init__(self, message: str, fault: str = "") -> None:
        super().__init__("\n".join(map(printable, message.split("\n"))))
        self.fault = printable(fault) or str(self)


class Transient(SpillwayError):
    """The same step may succeed later without any change."""


class Terminal(SpillwayError):
    """The same step will fail again until something is changed."""


class WrongUse(Terminal):
    """Invalid arguments, settings or mapping file. Nothing was done."""

    exit_code = ExitCode.WRONG_USE


class Unsuccessful(Terminal):
    """A run that did and reported everything it could, but must not count as a success.

    `result`: what the flow would have returned, for its command to print.
    """

    def __init__(self, message: str, result: dict[str, Any], exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.result = result
        self.exit_code = exit_code


class PrefectUnreachable(Terminal):
    """The Prefect server stopped answering. The process must exit at once.

    At a normal exit Prefect waits for its server, for minutes to hours.
    """


class AlreadyDrained(SpillwayError):
    """The ledger already covers a part of this id range: another run has drained it."""


class UnknownHost(psycopg.OperationalError):
    """The database's host name does not resolve."""


class NoAnswer(psycopg.OperationalError):
    """The server was silent for longer than a statement may take."""


class PasswordMissing(psycopg.OperationalError):
    """The server asks for a password and none is set."""


class AcceptsAgain(psycopg.OperationalError):
    """The server refused a connection, and accepted the next one at once, which was to find out why."""
