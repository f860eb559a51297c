"""Locations of files: a local path, or a URL that pyarrow or fsspec can open."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
from pyarrow import fs

from infra.errors.exceptions import SpillwayError, Terminal, Transient
from infra.errors.redact import one_line

# Codes of a local file system. An object store reports its state only in the message.
_TRANSIENT_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.EMFILE, errno.ENFILE}
_TRANSIENT_WORDS = re.compile(r"NETWORK_CONNECTION|SLOW_DOWN|THROTTLING|SERVICE_UNAVAILABLE|REQUEST_TIMEOUT|timed out")

_MAX_REASON = 300  # characters: without Java, the error of HDFS lists 60 paths that were searched

# Parameters begin at a ? that is followed by a name and =; any other ? belongs to a glob. In an http URL, every ? does.
_PARAMETERS = re.compile(r"\?(?=[\w.-]+=)")


@dataclass(frozen=True)
class Location:
    """A file system and a path in it, without a trailing slash. `display_name`: for messages, without credentials."""

    files: Any  # pyarrow.fs.FileSystem
    path: str
    display_name: str

    @property
    def local(self) -> bool:
        """Whether it is on this machine."""
        return isinstance(self.files, fs.LocalFileSystem)

    def display_name_of(self, path: str) -> str:
        """The display name of another path in the same file system."""
        if self.local:
            return path
        if not isinstance(self.files, fs.PyFileSystem):  # pyarrow decodes %2F, so a % in a name is encoded
            path = path.replace("%", "%25")
        for display_name in (self.display_name, unquote(self.display_name)):
            if display_name.endswith(self.path):
                return display_name[: len(display_name) - len(self.path)] + path
        return f"{self.display_name.partition('://')[0]}://{path.lstrip('/')}"


def open_location(source: str, purpose: str, advice: str) -> Location:
    """Open a path or URL. A relative path starts at the working directory. fsspec opens what pyarrow cannot.

    `purpose` begins an error message and `advice` ends it. Raises `Terminal` if the URL is invalid or its scheme
    unknown, `Transient` if a server does not answer.
    """
    if "://" not in source:
        path = str(Path(source).absolute())
        return Location(fs.LocalFileSystem(), path, path)
    web = source.startswith(("http:", "https:"))
    base, _, parameters = source.partition("?") if web else _split(source)
    display_name = without_credentials(source if web else base.replace("?", "%3F")).replace("%3F", "?")
    try:
        try:
            files, path = fs.FileSystem.from_uri(_encode_path(base) + (f"?{parameters}" if parameters else ""))
        except pa.ArrowInvalid:
            files, path = _by_fsspec(source)
    except (pa.ArrowException, OSError, ValueError, ImportError, TypeError) as error:
        reason = one_line(error).replace(source, display_name)
        hidden = source.partition("://")[2]
        if display_name != source and _quotes(
            reason.replace(display_name, ""), hidden.replace(display_name.partition("://")[2], "")
        ):
            reason = f"{type(error).__name__} (the message quotes the URL and is hidden)"
        if len(reason) > _MAX_REASON:
            reason = reason[:_MAX_REASON] + "…"
        if is_transient(error):
            raise Transient(f"{purpose}: {display_name} cannot be opened: {reason}; it is retried") from None
        raise Terminal(f"{purpose}: {display_name} cannot be opened: {reason}; {advice}") from None
    opened = Location(files, path.rstrip("/"), display_name.rstrip("/"))
    return Location(files, opened.path, opened.path) if opened.local else opened


def _split(url: str) -> tuple[str, str, str]:
    base, *parameters = _PARAMETERS.split(url, maxsplit=1)
    return base, "?", "".join(parameters)


def _encode_path(url: str) -> str:
    """A URL whose path has its invalid characters, such as those of a glob, percent-encoded. pyarrow decodes them."""
    scheme, _, rest = url.partition("://")
    server, slash, path = rest.partition("/")
    return f"{scheme}://{server}{slash}{quote(path, safe='/%:@!$&()+,;=~' + chr(39))}"


def _by_fsspec(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]  # slow to import, rarely needed

    files, base = url_to_fs(url)
    return fs.PyFileSystem(fs.FSSpecHandler(files)), str(base)


def without_credentials(url: str) -> str:
    """A URL without user, password and parameters, any of which may be a secret.

    A key may contain an unencoded /, ? or @. So if the URL names a user, everything before the last @ is removed.
    Without an @, anything that looks like a user and a key is removed too.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    if _NAMES_A_USER.match(rest):
        rest = rest.rpartition("@")[2] if "@" in rest else "…"
    return scheme + mark + re.sub(r"[?#].*", "", rest, flags=re.DOTALL)


# A user before the first /, or something after a colon that is not a port.
_NAMES_A_USER = re.compile(r"[^/]*@|[^/@]*:(?!\d{1,5}(?:[/?#]|$)(?!.*@))", re.DOTALL)
_PIECE = 4  # no message has this many consecutive characters of a secret


def _quotes(text: str, hidden: str) -> bool:
    """Whether a text contains a piece of the hidden part, plain or percent-encoded."""
    forms = {hidden, unquote(hidden), quote(hidden), quote(unquote(hidden), safe="")}
    text = text.lower()
    return any(form[at : at + _PIECE].lower() in text for form in forms for at in range(len(form) - _PIECE + 1))


def is_transient(error: BaseException) -> bool:
    """Whether a retry may succeed."""
    return getattr(error, "errno", None) in _TRANSIENT_ERRNO or bool(_TRANSIENT_WORDS.search(str(error)))


@contextmanager
def translate_errors(doing: str, display_name: str, advice: str) -> Iterator[None]:
    """Translate errors of a file system to `Transient` or `Terminal`, with the step, the location and the next step."""
    try:
        yield
    except SpillwayError:
        raise
    except (OSError, pa.ArrowException) as error:
        kind, next_step = (
            (Transient, "it is retried; free disk space or wait for the location to answer")
            if is_transient(error)
            else (Terminal, advice)
        )
        reason = re.sub(r"\S+://\S+", lambda found: without_credentials(found[0]), one_line(error))
        raise kind(f"{doing}: {display_name}: {reason}; {next_step}", reason) from error
