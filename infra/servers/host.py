"""Where servers run: this machine itself, or a root folder entered by chroot."""

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
from infra.servers.lock import make_traversable_folder

RUN_TIMEOUT = 180  # seconds for initdb; pg_ctl has a shorter limit of its own

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# bytes: a socket address of Linux has 108, the last of them NUL
SOCKET_PATH_LIMIT = 107


@dataclass(frozen=True)
class User:
    """An account that a server runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Host:
    """Maps paths and runs programs. Paths named `inside` are as the servers see them."""

    root: Path = Path("/")

    @property
    def is_chroot(self) -> bool:
        """Whether servers run in a root folder of their own."""
        return self.root != Path("/")

    def outside(self, inside: Path) -> Path:
        """The path of `inside` as this process sees it."""
        return self.root / inside.relative_to("/")

    def user(self, *names: str) -> User | None:
        """The first of `names` that has an account; None if this process is not root: then servers run as its user."""
        if os.geteuid() != 0:
            return None
        accounts = self._accounts()
        for name in names:
            if name in accounts:
                return accounts[name]
        raise Terminal(f"PostgreSQL refuses to run as root, and {self.root} has no user {' or '.join(names)}; add one")

    def _accounts(self) -> dict[str, User]:
        if not self.is_chroot:
            return {entry.pw_name: User(entry.pw_name, entry.pw_uid, entry.pw_gid) for entry in pwd.getpwall()}
        rows = [line.split(":") for line in (self.root / "etc/passwd").read_text().splitlines()]
        return {row[0]: User(row[0], int(row[2]), int(row[3])) for row in rows}

    def run(self, argv: Sequence[str], user: User | None) -> subprocess.CompletedProcess[str]:
        """Run a program as `user` and wait. `stdout` of the result has both outputs; the exit code is not checked.

        Servers that it starts in the background outlive this process.
        """
        direct = user if not self.is_chroot else None  # chroot itself switches to the user
        try:
            return subprocess.run(
                [*self._entry(user), *argv],
                user=direct.uid if direct else None,
                group=direct.gid if direct else None,
                extra_groups=[] if direct else None,
                cwd="/",  # the user may have no access to ours
                # Without our own variables: PGDATA, LANG or NOTIFY_SOCKET would change what the servers do.
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
                f"{Path(argv[0]).name} took more than {RUN_TIMEOUT} s; check the disk, then try again"
            ) from None

    def run_interactively(self, argv: Sequence[str], user: User | None, variables: Mapping[str, str]) -> int:
        """Run a client in this terminal, with `variables` added to the environment. Returns its exit code."""
        return run_interactively([*self._entry(user), *argv], variables)

    def _entry(self, user: User | None) -> list[str]:
        """The command that runs another one inside."""
        if not self.is_chroot:
            return []
        # After `su` it may not be on the PATH of root.
        chroot = shutil.which("chroot") or "/usr/sbin/chroot"
        account = [f"--userspec={user.uid}:{user.gid}", "--groups="] if user else []
        return [chroot, *account, str(self.root)]

    def make_folder(self, inside: Path, user: User | None, mode: int) -> Path:
        """Create `inside`, owned by `user`, with traversable parents. Returns it as this process sees it."""
        folder = self.outside(inside)
        make_traversable_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
        if user:
            os.chown(folder, user.uid, user.gid)
        return folder

    def write(self, inside: Path, text: str, user: User | None) -> None:
        """Write a file that only `user` can read."""
        path = self.outside(inside)
        # Unlink first: an older file may belong to another user or be a link.
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            if user:
                os.fchown(file.fileno(), user.uid, user.gid)


def run_interactively(argv: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run a client in this terminal, with `variables` added to the environment. Returns its exit code."""
    # Ctrl-C is for the client: psql cancels its query. Unlike SIG_IGN, a handler is not inherited by the client.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.call(argv, env={**os.environ, **variables})
    except FileNotFoundError:
        name = Path(argv[0]).name
        raise Terminal(f"{name} is not installed; install it (Debian: {_PACKAGE.get(name, name)})") from None
    finally:
        signal.signal(signal.SIGINT, before)


_PACKAGE = {"psql": "postgresql-client", "redis-cli": "redis-tools", "docker": "docker.io"}
