"""Redis as an ordinary process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path

from infra.errors.exceptions import Terminal
from infra.servers import probe
from infra.servers.engine import StopMode
from infra.servers.host import Host, User
from infra.servers.server import Server, failure_line

_CONF = """\
# Written by `spillway up` at every start.
bind 127.0.0.1
port {port}
daemonize yes
dir "{data}"
pidfile "{home}/redis.pid"
logfile "{home}/server.log"
appendonly yes
# A full Redis refuses new entries; any other policy would drop whole streams silently.
maxmemory-policy noeviction
"""


class RedisServer(Server):
    """One Redis. `program`: redis-server, as the host sees it."""

    service = "redis"

    def __init__(self, host: Host, home: Path, user: User | None, program: Path) -> None:
        super().__init__(host, home, user)
        self.program = program

    def _recorded_pid(self) -> int | None:
        text = self.host.outside(self.home / "redis.pid").read_text().strip()
        return int(text) if text else None

    def port(self) -> int | None:
        with contextlib.suppress(OSError):
            found = re.search(r"^port (\d+)$", self.host.outside(self.home / "redis.conf").read_text(), re.MULTILINE)
            return int(found[1]) if found else None
        return None

    def answer(self, port: int) -> str:
        return f"Redis {probe.redis_version(probe.local_redis(port))}"

    def launch(self, port: int) -> None:
        self.prepare_home()
        self.host.make_folder(self.data, self.user, 0o700)
        conf = self.home / "redis.conf"
        self.host.write(conf, _CONF.format(port=port, home=self.home, data=self.data), self.user)
        self.host.outside(self.home / "redis.pid").unlink(missing_ok=True)
        done = self.host.run([str(self.program), str(conf)], self.user)
        if done.returncode:
            raise Terminal(
                f"Redis did not start: {failure_line(done.stdout)} (its settings: {self.host.outside(conf)})"
            )

    def request_stop(self, pid: int, mode: StopMode) -> None:
        os.kill(pid, signal.SIGTERM if mode == "fast" else signal.SIGKILL)
