"""Errors as text that may be shown: in one line, without passwords and without the content of rows."""

from __future__ import annotations

import re

import psycopg

from infra.display import printable
from infra.errors.classify import was_raised
from infra.errors.sqlstates import sqlstate_rule

# In this order: a later pattern does not see what an earlier one has hidden.
_SECRETS = (
    re.compile(r"([?&]\w*password=)[^&\s]*", re.IGNORECASE),
    # libpq's pairs: with blanks around =, and a backslash before a quote inside quotes.
    re.compile(r"(password\s*=\s*)(?!\*\*\*)(?:'(?:\\.|[^'\\])*'?|(?:\\.|[^\s\\])+)", re.IGNORECASE),
    # Up to the last @: a password that is not percent-encoded may contain @, :, / and blanks.
    re.compile(r"(://[^\s:]*:)(?:\S*|[^/\n]*)(?=@)"),
    # Parts of an invalid URL that libpq, psycopg and urllib quote. No host and no port contains an @.
    re.compile(r"""((?:percent-encoded token: |spaces found in |integer value (?:as )?)["'])[^"']*"""),
    re.compile(r"""(["'])[^"'\s]*(?=@[^"'\s]*\1)"""),
)


def redact(text: str) -> str:
    """`text` with `***` for every password in a URL or a `password=` pair."""
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
