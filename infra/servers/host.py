"""Where servers run: this machine as it is, or a root folder that is entered by chroot."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.errors.exceptions import Terminal
from infra.servers.lock import make_open_folder

RUN_TIMEOUT = 180  # seconds for initdb, or for pg_ctl with its own shorter limit

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# The socket address of Linux has 108 bytes, the last of them NUL.
SOCKET_PATH_LIMIT = 107


@dataclass(frozen=True)
class User:
    """An account that a server runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Host:
    """Maps paths and runs programs. `inside` paths are as the servers see them."""

    root: Path = Path("/")

    @property
    def entered(self) -> bool:
        """Whether it is a root folder of its own."""
        return self.root != Path("/")

    def outside(self, inside: Path) -> Path:
        """Where this process finds `inside`."""
        return self.root / inside.relative_to("/")

    def user(self, *names: str) -> User | None:
        """The first of `names` that has an account; None if we are not root and servers run as ourselves."""
        if os.geteuid() != 0:
            return None
        accounts = self._accounts()
        for name in names:
            if name in accounts:
                return accounts[name]
        raise Terminal(f"PostgreSQL refuses to run as root, and {self.root} has no user {' or '.join(names)}: add one")

    def _accounts(self) -> dict[str, User]:
        if not self.entered:
            return {entry.pw_name: User(entry.pw_name, entry.pw_uid, entry.pw_gid) for entry in pwd.getpwall()}
        rows = [line.split(":") for line in (self.root / "etc/passwd").read_text().splitlines()]
        return {row[0]: User(row[0], int(row[2]), int(row[3])) for row in rows}

    def run(self, argv: Sequence[str], user: User | None) -> subprocess.CompletedProcess[str]:
        """Run a program as `user` and wait; its two outputs come back in `stdout`. The exit code is not judged.

        Servers that it leaves behind survive this process.
        """
        direct = user if not self.entered else None  # chroot itself changes the user after it entered
        try:
            return subprocess.run(
                [*self._entry(user), *argv],
                user=direct.uid if direct else None,
                group=direct.gid if direct else None,
                extra_groups=[] if direct else None,
                cwd="/",  # ours may be closed to the user
                # None of our own variables: PGDATA, LANG or NOTIFY_SOCKET would change what the servers do.
                env={"PATH": _SYSTEM_PATH, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=RUN_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Terminal(
                f"{Path(argv[0]).name} took more than {RUN_TIMEOUT} s: see that the disk works, then try again"
            ) from None

    def interact(self, argv: Sequence[str], user: User | None, variables: Mapping[str, str]) -> int:
        """Run a client on this terminal, with `variables` added to ours; returns its exit code."""
        return interact([*self._entry(user), *argv], variables)

    def _entry(self, user: User | None) -> list[str]:
        """What comes before the program to run it inside."""
        if not self.entered:
            return []
        # Not always on the PATH of a root that came by su.
        chroot = shutil.which("chroot") or "/usr/sbin/chroot"
        account = [f"--userspec={user.uid}:{user.gid}", "--groups="] if user else []
        return [chroot, *account, str(self.root)]

    def make_folder(self, inside: Path, user: User | None, mode: int) -> Path:
        """Make `inside` (its parents open to all, whatever the umask), owned by `user`. Returns it as we see it."""
        folder = self.outside(inside)
        make_open_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
        if user:
            os.chown(folder, user.uid, user.gid)
        return folder

    def write(self, inside: Path, text: str, user: User | None) -> None:
        """Write a file that `user` alone can read."""
        path = self.outside(inside)
        # Unlinked first: an older one may belong to somebody else, or be a link to elsewhere.
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            if user:
                os.fchown(file.fileno(), user.uid, user.gid)


def interact(argv: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run a client on this terminal, with `variables` added to ours; returns its exit code."""
    # Ctrl-C is the client's: psql cancels its query. A handler, unlike SIG_IGN, is not handed on to it.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.call(argv, env={**os.environ, **variables})
    except FileNotFoundError:
        name = Path(argv[0]).name
        raise Terminal(f"{name} is not on this machine: install it (Debian: {_PACKAGE.get(name, name)})") from None
    finally:
        signal.signal(signal.SIGINT, before)


_PACKAGE = {"psql": "postgresql-client", "redis-cli": "redis-tools", "docker": "docker.io"}
