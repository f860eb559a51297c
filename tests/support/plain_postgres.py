"""The PostgreSQL of this machine as it would be without TimescaleDB."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from infra.servers.engine import Service
from infra.servers.postgres import Postgres
from infra.servers.server import Server
from infra.servers.system import SystemEngine, installed


class PlainPostgres(Postgres):
    """A server that loads no library at its start."""

    def conf(self, port: int) -> str:
        return "".join(line for line in super().conf(port).splitlines(True) if "timescaledb" not in line)


class PlainEngine(SystemEngine):
    """As `system`, with copies of PostgreSQL's programs. They find everything else relative to themselves, so a folder
    without the extension's files makes a server on which it is not installed."""

    name = "plain"

    @property
    def folder(self) -> Path:
        return self.settings.state_dir.absolute() / self.settings.instance / "plain"

    def server(self, service: Service) -> Server:
        if service == "redis":
            return super().server(service)
        return PlainPostgres(
            self.host, self.folder / "timescaledb", self.host.user("postgres", "nobody"), self.postgres_bin()
        )

    def prepare(self) -> None:
        """Copy the programs."""
        if self.postgres_bin().exists():
            return
        bin_dir = installed()[0].bin_dir
        copy_programs(bin_dir, self._root)

    @property
    def _root(self) -> Path:
        return self.folder / "postgresql"

    def postgres_bin(self) -> Path:
        return self._root / installed()[0].bin_dir.relative_to("/")


def copy_programs(bin_dir: Path, root: Path) -> None:
    """Copy a PostgreSQL below `root`, each folder to its own path, without the files of TimescaleDB."""
    for option, pattern in (
        ("--bindir", "*"),
        ("--pkglibdir", "*.so"),
        ("--pkglibdir", "*.bc"),
        ("--sharedir", "**/*"),
    ):
        for file in _folder(bin_dir, option).glob(pattern):
            if file.is_file() and not file.name.startswith("timescaledb"):
                copy = root / file.relative_to("/")
                copy.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(file.resolve(), copy)
                except OSError:  # another file system
                    shutil.copy2(file, copy)
    translations = _folder(bin_dir, "--localedir")
    (root / translations.relative_to("/")).symlink_to(translations)


def _folder(bin_dir: Path, option: str) -> Path:
    done = subprocess.run([bin_dir / "pg_config", option], capture_output=True, text=True, timeout=120, check=True)
    return Path(done.stdout.strip())
