"""A container engine without Docker and without a registry: Podman, and stand-ins for the images of infra/compose.yaml.

Everything is in one folder; the containers, images and networks of this machine are not touched. A stand-in is the root
folder of the `debian` engine with an entrypoint that does what the official image promises. So these tests cover
Spillway, Docker's client, both generations of Compose and real containers, but not the official images.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from infra.servers.debian import SUITE, DebianEngine
from infra.servers.docker import COMPOSE_FILE
from infra.servers.engine import SERVICES, Service
from infra.settings import Settings
from tests.support.waiting import wait_until

ENTRYPOINT = Path(__file__).with_name("stand_in.sh")
# Raises no limit, delegates no cgroup and mounts nothing over another folder, so that it also works inside a container.
_CONTAINERS_CONF = """
[containers]
default_ulimits = []
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{folder}/tmp"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""
_STORAGE_CONF = """
[storage]
driver = "{driver}"
runroot = "{folder}/run"
graphroot = "{folder}/graph"
[storage.options.overlay]
skip_mount_home = "true"
"""
# Without overlay, each container gets a copy of its image (vfs). So an image holds only what the servers and the
# entrypoint need, 130 MB of 540, and no data of the instances in that root.
_KEPT = (
    *("bin", "sbin", "lib", "lib64", "tmp", "etc/passwd", "etc/group", "etc/nsswitch.conf", "etc/ld.so.c*"),
    *("usr/lib64", "usr/lib/*/*.so*", "usr/lib/postgresql", "usr/lib/locale"),
    *("usr/share/postgresql", "usr/share/zoneinfo", "usr/bin/redis-*"),
    *(f"usr/bin/{name}" for name in ("bash", "sh", "dash", "cat", "chmod", "chown", "id", "mkdir", "setpriv")),
)
_LEFT_OUT = ("libLLVM*", "libz3*", "bitcode")  # for PostgreSQL's JIT
_CHANGES: dict[Service, tuple[str, ...]] = {
    "redis": ("WORKDIR /data", "VOLUME /data", 'CMD ["redis-server"]'),
    "timescaledb": (
        "ENV PGDATA=/var/lib/postgresql/data",
        "VOLUME /var/lib/postgresql/data",
        "STOPSIGNAL SIGINT",  # fast shutdown: it does not wait for clients to disconnect
        'CMD ["postgres"]',
    ),
}


def unavailable_reason() -> str | None:
    """Why containers cannot run on this machine; None if they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "containers of these tests need root on Linux"
    missing = [name for name in ("podman", "runc", "mmdebstrap", "iptables") if not shutil.which(name, path=_PATH)]
    if missing:
        return f"containers: {', '.join(missing)} not on this machine; .ci/run installs what they need"
    return DebianEngine(Settings(_env_file=None)).unavailable_reason()


def require_containers() -> None:
    """Skip the test if containers cannot run here; fail it if the gate requires them."""
    if reason := unavailable_reason():
        cannot(reason)


def cannot(reason: str) -> None:
    """Skip the test; fail it if the gate requires containers."""
    (pytest.fail if os.environ.get("SPILLWAY_TEST_CONTAINERS") == "required" else pytest.skip)(reason)


_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


class Podman:
    """Podman with its storage in `folder`, next to Docker's client and Compose v2 from Debian."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "podman.sock"
        driver = "overlay" if _has_overlay(folder) else "vfs"
        for name, text in (("containers.conf", _CONTAINERS_CONF), ("storage.conf", _STORAGE_CONF)):
            (folder / name).write_text(text.format(folder=folder, driver=driver))
        self._own = {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "PATH": _PATH,
        }

    def run(self, *args: str | Path, timeout: float = 600) -> str:
        """Run `podman ARGS` and return its output. Raises `CalledProcessError`."""
        done = subprocess.run(
            ["podman", *args], env=self.environment, stdout=subprocess.PIPE, text=True, check=True, timeout=timeout
        )
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which `podman` uses this storage."""
        return os.environ | self._own

    def import_images(self) -> None:
        """Make the stand-ins, with the image names of the compose file."""
        debian = DebianEngine(Settings(_env_file=None))
        debian.prepare()
        tar = self.folder / "root.tar"
        kept = sorted(str(path.relative_to(debian.root)) for pattern in _KEPT for path in debian.root.glob(pattern))
        left_out = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
        own = ["-C", str(ENTRYPOINT.parent), ENTRYPOINT.name]
        subprocess.run(["tar", "-cf", tar, *left_out, "-C", debian.root, *kept, *own], check=True)
        programs = f"ENV PATH={debian.postgres_bin()}:/usr/bin:/bin"  # Debian's own psql is a script in Perl
        services = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
        for service in SERVICES:
            entrypoint = f"ENTRYPOINT {json.dumps(['/' + ENTRYPOINT.name])}"
            changes = [f"--change={change}" for change in (programs, entrypoint, *_CHANGES[service])]
            self.run("import", "--quiet", *changes, str(tar), f"docker.io/{_whole(services[service]['image'])}")
        tar.unlink()

    def fetch_clients(self) -> None:
        """Unpack Docker's client, and Compose v2 as its plugin: they need no installation."""
        root = self.folder / "clients"
        argv = ["mmdebstrap", "--quiet", "--variant=extract", "--include=docker-cli,docker-compose", SUITE, str(root)]
        subprocess.run(argv, stdin=subprocess.DEVNULL, check=True, timeout=600)
        # Not all of usr/bin: its docker-compose is v2, too.
        (self.folder / "bin").mkdir()
        (self.folder / "bin/docker").symlink_to(root / "usr/bin/docker")
        plugins = {name: self.folder / name / "cli-plugins/docker-compose" for name in ("v1", "v2")}
        for plugin in plugins.values():
            plugin.parent.mkdir(parents=True)
        # A user's plugin comes before the machine's. This one fails, so that v1 is used.
        plugins["v1"].write_text("#!/bin/sh\nexit 1\n")
        plugins["v1"].chmod(0o755)
        plugins["v2"].symlink_to(root / "usr/libexec/docker/cli-plugins/docker-compose")

    def variables(self, compose: str) -> dict[str, str]:
        """The environment in which `docker` and this version of Compose (v1, v2) are found."""
        return {
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(self.folder / compose),
            "PATH": f"{self.folder}/bin:{_PATH}",
        }

    @contextmanager
    def serving(self) -> Iterator[None]:
        """While the block runs, Podman answers as Docker. Then no container, volume, network or process remains."""
        argv = ["podman", "system", "service", "--time=0", f"unix://{self.socket}"]
        with (self.folder / "service.log").open("wb") as log:
            service = subprocess.Popen(argv, env=self.environment, stdout=log, stderr=log)
        try:
            log_text = (self.folder / "service.log").read_text
            wait_until(lambda: self.socket.is_socket() or service.poll() is not None, shown=log_text)
            assert service.poll() is None, log_text()
            yield
        finally:
            service.terminate()
            service.wait(timeout=120)
            self.run("rm", "--all", "--force", "--volumes", "--time=0")
            self.run("network", "prune", "--force")
            self._end_monitors()

    def _end_monitors(self) -> None:
        """End the monitors of finished `docker exec` commands: they would stay for five minutes and then write to
        `folder`."""
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if b"conmon" in (words := command.read_bytes()) and os.fsencode(self.folder) in words:
                    os.kill(int(command.parent.name), signal.SIGKILL)


@contextmanager
def bridges() -> Iterator[None]:
    """Wait until no other process of the tests has bridge networks, and keep them for the block.

    Podman gives a new network the first name and addresses that neither its own networks nor the machine's bridges
    have, and a bridge exists while a container runs. So two Podmans with stopped containers choose the same ones.
    """
    with (Path(tempfile.gettempdir()) / "spillway-bridges.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _has_overlay(folder: Path) -> bool:
    """Whether the kernel can show one folder on top of another here: it cannot if `folder` is itself such a mount."""
    lower, upper, work, shown = made = [folder / f"overlay-{name}" for name in ("lower", "upper", "work", "shown")]
    for path in made:
        path.mkdir()
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    mounted = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, shown], capture_output=True)
    if not mounted.returncode:
        subprocess.run(["umount", shown], check=True)
    for path in made:
        shutil.rmtree(path)
    return not mounted.returncode


def _whole(image: str) -> str:
    """The full name of an image: `redis:7` is `library/redis:7`."""
    return image if "/" in image else f"library/{image}"


@contextmanager
def containers(folder: Path) -> Iterator[Podman]:
    """Podman, the clients and the images in `folder`, which is removed at the end."""
    try:
        podman = Podman(folder)
        podman.fetch_clients()
        podman.import_images()
        with podman.serving():
            yield podman
    finally:
        shutil.rmtree(folder)
