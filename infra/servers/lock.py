"""One `spillway` at a time works on an instance or creates the Debian root."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.errors.exceptions import Terminal
from infra.output import progress
from infra.settings import Settings

LOCK_TIMEOUT = 900  # seconds: creating a Debian root over a slow line takes longest


@contextmanager
def file_lock(path: Path, what: str, remove: bool = False) -> Iterator[None]:
    """Hold the lock file `path` for the block; `what` it protects appears in messages. Reentrant within a process.

    `remove`: remove the file at the end of the block, unless that fails. Only for the outermost block of a process.
    Raises `Terminal` after `LOCK_TIMEOUT`.
    """
    from filelock import FileLock, Timeout  # 70 ms, for the commands that need it

    make_traversable_folder(path.parent)
    lock = FileLock(path, mode=0o600, is_singleton=True, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        progress(f"waiting for another spillway that is working on {what}")
        try:
            lock.acquire(timeout=LOCK_TIMEOUT)
        except Timeout:
            raise Terminal(
                f"{what}: another spillway has been working on it for {LOCK_TIMEOUT} s; nothing was changed; end that"
                " process, then try again"
            ) from None
    try:
        yield
        if remove:
            # The holder's last act. Another process may have opened the file before and lock it afterwards: filelock
            # then sees that the locked file has no name any more, and opens the path again (since 3.20.4).
            path.unlink(missing_ok=True)
    finally:
        lock.release()


@contextmanager
def instance_lock(settings: Settings, remove: bool = False) -> Iterator[None]:
    """Hold the lock of this instance, and raise errors of its folders as `Terminal`. `remove`: as `file_lock`."""
    lock = settings.state_dir / f".{settings.instance}.lock"
    with translate_os_errors(settings.state_dir), file_lock(lock, f"instance {settings.instance}", remove):
        yield


@contextmanager
def translate_os_errors(folder: Path) -> Iterator[None]:
    """Raise an `OSError` as `Terminal` with the next step."""
    try:
        yield
    except OSError as error:
        what = f"{error.filename or folder}: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Terminal(f"{what}; free some space there, or set SPILLWAY_STATE_DIR to another disk") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise Terminal(
                f"{what}; run as the user who owns it, or set SPILLWAY_STATE_DIR to a folder of your own"
            ) from error
        raise Terminal(f"{what}; check that SPILLWAY_STATE_DIR names a folder") from error


def make_traversable_folder(folder: Path) -> None:
    """Create `folder` and its missing parents so that the servers' users can pass through them, whatever the umask."""
    for missing in [part for part in (*reversed(folder.parents), folder) if not part.exists()]:
        missing.mkdir(exist_ok=True)
        missing.chmod(0o755)
