"""Instances of servers with a name and ports of their own, and the `spillway` command that works on them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from infra.servers.choose import ENGINES
from infra.servers.engine import Engine
from infra.settings import Settings
from tests.support.ports import free_port

SPILLWAY = Path(sys.executable).with_name("spillway")


ENGINES_WITHOUT_DOCKER = ("system", "debian")


@dataclass
class Instance:
    """An instance with its own name and ports, and the command line for it."""

    engine_name: str
    state_dir: Path
    folder: Path
    name: str = field(default_factory=lambda: f"test-{random.randbytes(4).hex()}")
    redis_port: int = field(default_factory=free_port)
    postgres_port: int = field(default_factory=free_port)

    @property
    def settings(self) -> Settings:
        return Settings(
            _env_file=None,
            instance=self.name,
            redis_port=self.redis_port,
            postgres_port=self.postgres_port,
            state_dir=self.state_dir,
            redis_url="",
            database_url="",
        )

    @property
    def engine(self) -> Engine:
        return ENGINES[self.engine_name](self.settings)

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPILLWAY_")}
        return inherited | {
            "SPILLWAY_INSTANCE": self.name,
            "SPILLWAY_REDIS_PORT": str(self.redis_port),
            "SPILLWAY_POSTGRES_PORT": str(self.postgres_port),
            "SPILLWAY_STATE_DIR": str(self.state_dir),
        }

    def begin(self, *args: str, **variables: str) -> subprocess.Popen[str]:
        """Start `spillway ARGS` in a folder without `.env`."""
        return subprocess.Popen(
            [SPILLWAY, *args],
            env=self.environment | variables,
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *args: str, typed: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `spillway ARGS` and wait for it to end."""
        process = self.begin(*args, **variables)
        out, err = process.communicate(typed, timeout=300)
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def error(self, *args: str, **variables: str) -> str:
        """The only error line of `spillway ARGS`, which must fail."""
        done = self.run(*args, **variables)
        assert done.returncode in (1, 2), done
        assert "Traceback" not in done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.stderr.splitlines()[-1] == line
        return line
