"""One `spillway` at a time works on an instance, or makes the Debian root."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.errors.exceptions import Terminal
from infra.output import progress
from infra.settings import Settings

PATIENCE = 900  # seconds: the longest that is waited for is a Debian root over a slow line

_held: set[Path] = set()


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` for the block. A process that holds it already goes straight in.

    The file stays: removing it would let a third one in beside the second. Raises `Terminal` after `PATIENCE`.
    """
    if path in _held:
        yield
        return
    make_open_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for(descriptor, what)
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)
    finally:
        os.close(descriptor)


@contextmanager
def working(settings: Settings) -> Iterator[None]:
    """Alone on this instance, and with what the machine refuses said in one line."""
    lock = settings.state_dir / f".{settings.instance}.lock"
    with said(settings.state_dir), locked(lock, f"instance {settings.instance}"):
        yield


@contextmanager
def said(folder: Path) -> Iterator[None]:
    """Turns what the machine refuses into `Terminal` with the next step."""
    try:
        yield
    except OSError as error:
        what = f"{error.filename or folder}: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Terminal(f"{what}: free some space there, or set SPILLWAY_STATE_DIR to another disk") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise Terminal(
                f"{what}: run as the user who owns it, or set SPILLWAY_STATE_DIR to a folder of your own"
            ) from error
        raise Terminal(f"{what}: see that SPILLWAY_STATE_DIR names a folder") from error


def make_open_folder(folder: Path) -> None:
    """Make `folder` and its parents, so that the servers' users can go through them, whatever the umask."""
    for missing in [part for part in (*reversed(folder.parents), folder) if not part.exists()]:
        missing.mkdir(exist_ok=True)
        missing.chmod(0o755)


def _wait_for(descriptor: int, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Terminal(
                    f"another spillway has been busy with {what} for {PATIENCE} s: end it, then try again"
                ) from None
            if not told:
                progress(f"waiting for another spillway that is busy with {what}")
                told = True
            time.sleep(0.1)
        else:
            return
