"""The `debian` engine: both servers from Debian's packages, in a root folder entered by chroot."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from rich.filesize import decimal

from infra.errors.exceptions import Terminal
from infra.output import progress
from infra.servers.host import Host
from infra.servers.lock import file_lock, translate_os_errors
from infra.servers.process import ProcessEngine
from infra.servers.server import failure_line

SUITE = "trixie"  # Debian 13: the first with a TimescaleDB (2.19) that loses no rows (issue 7672)
PACKAGES = "postgresql-17-timescaledb,redis-server"
ROOT_NAME = "debian-13"
# The root takes 540 MB. While it is created, the downloaded packages take up space too.
NEEDED_BYTES = 1_200_000_000
MAKE_TIMEOUT = 1800  # seconds: 30 s on a fast line; a slow one has to download 150 MB of packages
INSTALL_TIMEOUT = 600  # seconds for apt-get


class DebianEngine(ProcessEngine):
    """Both servers in `<state_dir>/debian-13`, which is created once and shared by all instances."""

    name = "debian"

    @property
    def root(self) -> Path:
        """The root folder, whether it exists or not."""
        return self.settings.state_dir.absolute() / ROOT_NAME

    @property
    def host(self) -> Host:
        return Host(self.root)

    @property
    def folder(self) -> Path:
        return Path("/var/lib/spillway") / self.settings.instance

    def unavailable_reason(self) -> str | None:
        if sys.platform != "linux":
            return "a Debian root runs on Linux only"
        if os.geteuid() != 0:
            return "a Debian root needs root rights; run it with sudo"
        if not (self.root.exists() or shutil.which("mmdebstrap") or shutil.which("apt-get")):
            return "mmdebstrap is not installed, and there is no apt-get to install it"
        return None

    def prepare(self) -> None:
        if self.root.exists():
            return
        if reason := self.unavailable_reason():
            raise Terminal(reason)
        lock = self.root.with_name(f".{ROOT_NAME}.lock")
        with file_lock(lock, f"the Debian root {self.root}"), translate_os_errors(self.root):
            if not self.root.exists():
                make_root(self.root)

    def postgres_bin(self) -> Path:
        found = sorted(self.root.glob("usr/lib/postgresql/*/bin"), key=lambda path: int(path.parent.name))
        if not found:
            raise Terminal(
                f"{self.root} contains no PostgreSQL; remove the folder, then run `spillway up`, which creates it again"
            )
        return Path("/") / found[-1].relative_to(self.root)

    def redis_program(self) -> Path:
        return Path("/usr/bin/redis-server")


def make_root(root: Path) -> None:
    """Create the root folder under another name and rename it, so that it exists completely or not at all.

    Raises `Terminal` with the reason in one line.
    """
    free = shutil.disk_usage(root.parent).free
    if free < NEEDED_BYTES:
        raise Terminal(
            f"{root.parent}: a Debian root needs {decimal(NEEDED_BYTES)} while it is created, found {decimal(free)}"
            " free; free some space there, or set SPILLWAY_STATE_DIR to another disk"
        )
    install_mmdebstrap()
    making, log = root.with_name(f".{root.name}.making"), root.with_name(f"{root.name}.log")
    _remove(making)
    progress(f"creating a Debian root in {root}, once: 540 MB, about a minute")
    argv = ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(making)]
    with log.open("w") as output:
        code = _run(argv, MAKE_TIMEOUT, output.fileno())
    if code:
        _remove(making)
        reason = _first_error(log.read_text(errors="replace"))
        raise Terminal(f"mmdebstrap could not create {root}: {reason} (full output: {log})")
    _finish(making)
    making.rename(root)


def install_mmdebstrap() -> None:
    """Install mmdebstrap with apt-get if it is missing."""
    if shutil.which("mmdebstrap"):
        return
    progress("installing mmdebstrap with apt-get")
    for argv in (
        ["apt-get", "update"],
        # mmdebstrap does not depend on the keys, and Ubuntu does not install them by default.
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
            raise Terminal(f"`{' '.join(argv)}` failed: {_first_error(done.stdout)}; install mmdebstrap yourself")


def _run(argv: list[str], timeout: float, output: int) -> int:
    try:
        return subprocess.run(
            argv,
            # English, so that the error is found. Another locale does not exist in a new root anyway.
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        raise Terminal(f"{argv[0]} took more than {timeout:.0f} s; check the network, then try again") from None


def _first_error(output: str) -> str:
    """The first error in the output of apt or mmdebstrap, else the line that best explains a failure."""
    errors = [line for line in output.splitlines() if re.match(r"E: |Err:|error:", line)]
    return errors[0] if errors else failure_line(output)


def _finish(root: Path) -> None:
    """Add what the servers need and a new root lacks."""
    shared_memory = root / "dev/shm"
    shared_memory.mkdir(parents=True, exist_ok=True)
    shared_memory.chmod(0o1777)
    null = root / "dev/null"
    if not null.is_char_device():
        # mmdebstrap leaves a file if it may not create devices.
        null.unlink(missing_ok=True)
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        null.chmod(0o666)


def _remove(folder: Path) -> None:
    """Remove an unfinished root, but nothing that is mounted in it: that would be this machine's /dev."""
    if not folder.exists():
        return
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    if mounted := [mount for mount in mounts if mount.startswith(f"{folder}/")]:
        raise Terminal(
            f"an interrupted mmdebstrap left {mounted[0]} mounted; run `umount {' '.join(mounted)}`, then try again"
        )
    shutil.rmtree(folder)
