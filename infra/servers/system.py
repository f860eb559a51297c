"""The `system` engine: the PostgreSQL and Redis that are installed on this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from infra.errors.exceptions import Terminal
from infra.servers.host import Host
from infra.servers.process import ProcessEngine
from infra.versions import MIN_POSTGRES, MIN_REDIS, MIN_TIMESCALEDB, parse_version

_POSTGRES_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
_REDIS_FOLDERS = ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin")


@dataclass(frozen=True)
class Installed:
    """A PostgreSQL on this machine. `timescaledb`: the extension's version; empty if it is not installed."""

    bin_dir: Path
    major: int
    timescaledb: str

    @property
    def fits(self) -> bool:
        """Whether Spillway's schema can be applied to it."""
        return self.major >= MIN_POSTGRES and parse_version(self.timescaledb) >= MIN_TIMESCALEDB

    def __str__(self) -> str:
        extension = f"TimescaleDB {self.timescaledb}" if self.timescaledb else "no TimescaleDB"
        return f"PostgreSQL {self.major} with {extension} in {self.bin_dir}"


class SystemEngine(ProcessEngine):
    """Both servers from this machine's packages, with their data in `<state_dir>/<instance>/system`."""

    name = "system"

    @property
    def host(self) -> Host:
        return Host()

    @property
    def folder(self) -> Path:
        return self.settings.state_dir.absolute() / self.settings.instance / "system"

    def unavailable_reason(self) -> str | None:
        found = installed()
        if not any(one.fits for one in found):
            installed_ones = "; ".join(map(str, found)) or "no PostgreSQL"
            return (
                f"expected PostgreSQL {MIN_POSTGRES} or later with TimescaleDB {MIN_TIMESCALEDB} or later, found"
                f" {installed_ones}; install the extension"
            )
        program = find_redis()
        if program is None:
            return "redis-server is not installed; install it (Debian: redis-server)"
        if (version := redis_version(program)) < MIN_REDIS:
            return f"{program} is version {version}, expected {MIN_REDIS} or later; upgrade it"
        return None

    def postgres_bin(self) -> Path:
        fitting = [one for one in installed() if one.fits]
        made_by = self.folder / "timescaledb/data/PG_VERSION"
        try:
            major = int(made_by.read_text())
        except FileNotFoundError:
            if not fitting:
                raise Terminal(self.unavailable_reason() or "PostgreSQL with TimescaleDB is not installed") from None
            return fitting[0].bin_dir
        except PermissionError:
            raise Terminal(f"{made_by} belongs to another user; run as that user, or as root") from None
        for one in fitting:
            if one.major == major:
                return one.bin_dir
        raise Terminal(
            f"the data in {made_by.parent} needs PostgreSQL {major} with TimescaleDB, which is not installed; the data"
            " is untouched; install it, or remove the data with `spillway reset`"
        )

    def redis_program(self) -> Path:
        program = find_redis()
        if program is None:
            raise Terminal("redis-server is not installed; install it (Debian: redis-server)")
        return program


def installed() -> list[Installed]:
    """The PostgreSQL servers of this machine, the newest first."""
    folders = [path for pattern in _POSTGRES_FOLDERS for path in Path("/").glob(pattern.removeprefix("/"))]
    if config := shutil.which("pg_config"):
        folders.insert(0, Path(_output(config, "--bindir")))
    if server := shutil.which("postgres"):
        folders.append(Path(server).resolve().parent)
    found = []
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        if (folder / "initdb").exists() and (version := re.search(r"\) (\d+)", _output(folder / "postgres", "-V"))):
            found.append(Installed(folder, int(version[1]), _timescaledb(folder, int(version[1]))))
    return sorted(found, key=lambda one: one.major, reverse=True)


def _timescaledb(bin_dir: Path, major: int) -> str:
    """The version of the installed extension; empty if there is none."""
    shares = [Path(f"/usr/share/postgresql/{major}"), bin_dir.parent / "share/postgresql", bin_dir.parent / "share"]
    if sharedir := _output(bin_dir / "pg_config", "--sharedir"):
        shares.insert(0, Path(sharedir))
    for share in shares:
        control = share / "extension/timescaledb.control"
        if control.exists():
            version = re.search(r"default_version\s*=\s*'([^']+)'", control.read_text())
            return version[1] if version else ""
    return ""


def find_redis() -> Path | None:
    """The redis-server of this machine; None if there is none."""
    for folder in (None, *_REDIS_FOLDERS):
        if found := shutil.which("redis-server", path=folder):
            return Path(found)
    return None


def redis_version(program: Path) -> Version:
    """The version that redis-server reports; 0 if it reports none."""
    found = re.search(r"v=([\d.]+)", _output(program, "--version"))
    return parse_version(found[1] if found else "")


def _output(program: str | Path, option: str) -> str:
    """The output of a program with one option; empty if it cannot run."""
    try:
        return subprocess.run([program, option], capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
