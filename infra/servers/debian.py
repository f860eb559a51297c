"""The `debian` engine: both servers from Debian's packages, in a root folder of their own entered by chroot."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from infra.errors.exceptions import Terminal
from infra.output import progress
from infra.servers.host import Host
from infra.servers.lock import locked, said
from infra.servers.process import ProcessEngine
from infra.servers.server import telling

SUITE = "trixie"  # Debian 13: the first with a TimescaleDB (2.19) that does not lose rows (issue 7672)
PACKAGES = "postgresql-17-timescaledb,redis-server"
ROOT_NAME = "debian-13"
# 540 MB are kept; while it is made the downloaded packages lie beside them.
NEEDED_BYTES = 1_200_000_000
MAKE_TIMEOUT = 1800  # seconds: 30 s on a good line, 150 MB of packages on a slow one
INSTALL_TIMEOUT = 600  # seconds for apt-get


class DebianEngine(ProcessEngine):
    """Both servers in `<state_dir>/debian-13`, which is made once and shared by all instances."""

    name = "debian"

    @property
    def root(self) -> Path:
        """The root folder, made or not."""
        return self.settings.state_dir.absolute() / ROOT_NAME

    @property
    def host(self) -> Host:
        return Host(self.root)

    @property
    def folder(self) -> Path:
        return Path("/var/lib/spillway") / self.settings.instance

    def why_not(self) -> str | None:
        if sys.platform != "linux":
            return "a Debian root runs on Linux only"
        if os.geteuid() != 0:
            return "a Debian root needs root: run it as root (sudo)"
        if not (self.root.exists() or shutil.which("mmdebstrap") or shutil.which("apt-get")):
            return "mmdebstrap is not on this machine, nor apt-get to install it"
        return None

    def prepare(self) -> None:
        if self.root.exists():
            return
        if reason := self.why_not():
            raise Terminal(reason)
        with locked(self.root.with_name(f".{ROOT_NAME}.lock"), f"the Debian root {self.root}"), said(self.root):
            if not self.root.exists():
                make_root(self.root)

    def postgres_bin(self) -> Path:
        found = sorted(self.root.glob("usr/lib/postgresql/*/bin"), key=lambda path: int(path.parent.name))
        if not found:
            raise Terminal(f"{self.root} holds no PostgreSQL: remove that folder, and `spillway up` makes it again")
        return Path("/") / found[-1].relative_to(self.root)

    def redis_program(self) -> Path:
        return Path("/usr/bin/redis-server")


def make_root(root: Path) -> None:
    """Make the root folder aside and put it in its place: there is a whole one or none.

    Raises `Terminal` with the reason in one line.
    """
    free = shutil.disk_usage(root.parent).free
    if free < NEEDED_BYTES:
        raise Terminal(
            f"{root.parent} has {free // 1_000_000} MB free, and a Debian root takes {NEEDED_BYTES // 1_000_000} MB"
            " while it is made: free some space there, or set SPILLWAY_STATE_DIR to another disk"
        )
    install_mmdebstrap()
    making, log = root.with_name(f".{root.name}.making"), root.with_name(f"{root.name}.log")
    _remove(making)
    progress(f"making a Debian root in {root}, once: 540 MB, about a minute")
    argv = ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(making)]
    with log.open("w") as output:
        code = _run(argv, MAKE_TIMEOUT, output.fileno())
    if code:
        _remove(making)
        reason = _complaint(log.read_text(errors="replace"))
        raise Terminal(f"mmdebstrap could not make {root}: {reason} (all of it: {log})")
    _finish(making)
    making.rename(root)


def install_mmdebstrap() -> None:
    """Install mmdebstrap with apt-get if it is not there."""
    if shutil.which("mmdebstrap"):
        return
    progress("installing mmdebstrap with apt-get")
    for argv in (
        ["apt-get", "update"],
        # The keys are not a dependency of it, and on Ubuntu not there by themselves.
        ["apt-get", "install", "-y", "--no-install-recommends", "mmdebstrap", "debian-archive-keyring"],
    ):
        done = subprocess.run(
            argv,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=INSTALL_TIMEOUT,
            check=False,
        )
        if done.returncode:
            raise Terminal(f"`{' '.join(argv)}` failed: {_complaint(done.stdout)}; install mmdebstrap by hand")


def _run(argv: list[str], timeout: float, output: int) -> int:
    try:
        return subprocess.run(
            argv,
            # English, so that its complaint is found; a foreign locale does not exist in a new root anyway.
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        raise Terminal(
            f"{argv[0]} took more than {timeout:.0f} s: see that the network works, then try again"
        ) from None


def _complaint(output: str) -> str:
    """The line of apt's or mmdebstrap's output that tells most: the first error, else its usual end."""
    errors = [line for line in output.splitlines() if re.match(r"E: |Err:|error:", line)]
    return errors[0] if errors else telling(output)


def _finish(root: Path) -> None:
    """What the servers need that a new root lacks."""
    shared_memory = root / "dev/shm"
    shared_memory.mkdir(parents=True, exist_ok=True)
    shared_memory.chmod(0o1777)
    null = root / "dev/null"
    if not null.is_char_device():
        # Where mmdebstrap may not make devices it leaves files.
        null.unlink(missing_ok=True)
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        null.chmod(0o666)


def _remove(folder: Path) -> None:
    """Remove a root that was left half made, but never what is mounted in it: that would be this machine's /dev."""
    if not folder.exists():
        return
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    if left := [mount for mount in mounts if mount.startswith(f"{folder}/")]:
        raise Terminal(
            f"an interrupted mmdebstrap left {left[0]} mounted: run `umount {' '.join(left)}`, then try again"
        )
    shutil.rmtree(folder)
