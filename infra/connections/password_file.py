"""The file with passwords that libpq reads (`PGPASSFILE`, `~/.pgpass`), which it ignores if others may read it.

libpq then writes a warning to the standard error of the process itself, past every log and its format. Here the file is
checked before libpq looks at it.
"""

from __future__ import annotations

import os
import stat
from functools import cache
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

_NO_FILE = "/dev/null/none"  # cannot exist, so libpq does not look further and says nothing


def without_open_password_file(url: str) -> str:
    """`url`, and if libpq would ignore its password file with a warning, without that file. Warns once of each file.

    The file is looked at for each connection, so that one whose permissions were fixed is used without a restart.
    """
    try:
        options = conninfo_to_dict(url)
    except psycopg.Error:
        return url  # connecting explains it
    if options.get("password") or os.environ.get("PGPASSWORD") or options.get("service") or "PGSERVICE" in os.environ:
        return url  # libpq does not read the file, or it has options that we do not know
    path = Path(str(options.get("passfile") or os.environ.get("PGPASSFILE") or Path.home() / ".pgpass"))
    try:
        mode = path.stat().st_mode
    except OSError:
        return url
    if stat.S_ISREG(mode) and not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return url
    _warn(path, mode)
    return make_conninfo(url, passfile=_NO_FILE)


@cache
def _warn(path: Path, mode: int) -> None:
    from infra.output import warn

    found = f"found {stat.filemode(mode)}" if stat.S_ISREG(mode) else "found no plain file"
    warn(
        f"the password file {path}: expected a file that only its owner may read, {found}; its passwords are not used;"
        f" chmod 600 {path}"
    )
