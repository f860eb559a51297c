"""Errors as text that may be shown: in one line, without passwords and without the content of rows."""

from __future__ import annotations

import re

import psycopg

from infra.display import printable
from infra.errors.classify import was_raised
from infra.errors.sqlstates import sqlstate_rule

# In this order: what an earlier one hides, a later one does not look at.
_SECRETS = (
    re.compile(r"([?&]\w*password=)[^&\s]*", re.IGNORECASE),
    # libpq's pairs: blanks around the =, and in quotes a backslash before a quote.
    re.compile(r"(password\s*=\s*)(?!\*\*\*)(?:'(?:\\.|[^'\\])*'?|(?:\\.|[^\s\\])+)", re.IGNORECASE),
    # To the last @: a password that nobody percent-encoded may hold @, : and /, and even blanks.
    re.compile(r"(://[^\s:]*:)(?:\S*|[^/\n]*)(?=@)"),
    # What libpq, psycopg and urllib quote of a URL that they cannot read. No host and no port has an @.
    re.compile(r"""((?:percent-encoded token: |spaces found in |integer value (?:as )?)["'])[^"']*"""),
    re.compile(r"""(["'])[^"'\s]*(?=@[^"'\s]*\1)"""),
)


def redact(text: str) -> str:
    """`text` with every password of a URL or a `password=` pair replaced by `***`."""
    for secret in _SECRETS:
        text = secret.sub(r"\1***", text)
    return text


def may_quote_a_row(error: psycopg.Error) -> bool:
    """Whether the server's message or detail may quote a row."""
    return was_raised(error) or (error.sqlstate is not None and sqlstate_rule(error.sqlstate).quotes_row is not None)


def _server_message(error: psycopg.Error) -> str:
    """The server's message, unless it may quote a row."""
    quotes = "message" if was_raised(error) else sqlstate_rule(error.sqlstate or "").quotes_row
    if quotes != "message":
        return error.diag.message_primary or ""
    return (
        f"{type(error).__name__} [{error.sqlstate}]; the server's message may quote a row: read it in the server's log"
    )


def one_line(error: BaseException) -> str:
    """The message of `error` in one line, without passwords and without the content of rows."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary and may_quote_a_row(error):
        message = _server_message(error)
    else:
        message = str(error)
    text = " ".join(message.split()).removesuffix(".") or type(error).__name__
    return printable(redact(text))
