"""Errors as text that may be shown: in one line, without passwords and without the content of rows."""

from __future__ import annotations

import re

import psycopg

from infra.display import printable

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


# RAISE and ASSERT of PL/pgSQL report from here, in any language of the server.
_RAISED = {"exec_stmt_raise", "exec_stmt_assert"}


def may_quote_a_row(error: psycopg.Error) -> bool:
    """Whether the server's words may quote a row: of a value that it rejects, or raised by a function."""
    state = error.sqlstate or ""
    return state[:2] in ("22", "23", "P0") or error.diag.source_function in _RAISED


def _server_words(error: psycopg.Error) -> str:
    """What the server said, without what may quote a row. Of an integrity error the message has names only, its detail
    has the row. 22023 is about a parameter."""
    words = error.diag.message_primary or ""
    names_only = error.sqlstate is not None and (error.sqlstate[:2] == "23" or error.sqlstate == "22023")
    if names_only and error.diag.source_function not in _RAISED:
        return words
    return f"{type(error).__name__} [{error.sqlstate}]; the server's words may quote a row: they are in its log"


def one_line(error: BaseException) -> str:
    """The message of `error` as one line without passwords, and without the content of rows."""
    quotes = isinstance(error, psycopg.Error) and bool(error.diag.message_primary) and may_quote_a_row(error)
    said = _server_words(error) if quotes and isinstance(error, psycopg.Error) else str(error)
    text = " ".join(said.split()).removesuffix(".") or type(error).__name__
    return printable(redact(text))
