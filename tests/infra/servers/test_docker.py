"""The `docker` engine with real containers, by docker-compose 1.29 and by Compose v2: see stand_in_images.py."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from infra.errors.exceptions import Terminal
from infra.servers.engine import SERVICES, Service
from infra.servers.server import child_pids
from infra.settings import DATABASE_PASSWORD
from tests.support.instances import Instance
from tests.support.oracle import flat_rows, table_rows
from tests.support.stand_in_images import Podman, bridges, cannot, containers, require_containers

# The first test makes the images, and may wait for the networks of test_containers.py.
pytestmark = pytest.mark.timeout(1800)

VERSIONS = {"v1": "1.29.", "v2": "2."}


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """A container engine for these tests only."""
    require_containers()
    with containers(Path(tempfile.mkdtemp(prefix="spillway-containers-"))) as made, bridges():
        yield made


@pytest.fixture(scope="module", params=VERSIONS)
def compose(request: pytest.FixtureRequest, podman: Podman) -> Iterator[str]:
    """Each version of Compose in turn as the one that `spillway` finds; returns the start of its version."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in podman.variables(request.param).items():
            patch.setenv(name, value)
        if request.param == "v1":
            done = subprocess.run(["/bin/sh", "-c", "docker-compose version --short"], capture_output=True, text=True)
            if not done.stdout.startswith(VERSIONS["v1"]):
                cannot("docker-compose 1.29 is not on this machine: Debian 12 has it")
        yield VERSIONS[request.param]


@pytest.fixture(scope="module")
def shared(podman: Podman, compose: str) -> Iterator[Instance]:
    """One instance for each version of Compose, not started yet."""
    folder = podman.folder / f"state-{compose}"
    folder.mkdir()
    instance = Instance("docker", folder, folder)
    yield instance
    instance.engine.reset()


@pytest.fixture
def docker(shared: Instance) -> Instance:
    """The same instance, running."""
    shared.engine.up()
    return shared


def ask(*args: str) -> str:
    """The output of `docker ARGS`."""
    return subprocess.run(["docker", *args], capture_output=True, text=True, check=True).stdout.strip()


def look(instance: Instance, service: Service, template: str) -> str:
    return ask("container", "inspect", "--format", template, f"{instance.name}-{service}")


def started(instance: Instance) -> list[str]:
    """The containers and their start times."""
    return [look(instance, service, "{{.Id}} {{.State.StartedAt}}") for service in SERVICES]


def volumes(instance: Instance) -> set[str]:
    names = ask("volume", "ls", "--format", "{{.Name}}").split()
    return {name for name in names if instance.name in name}


def keep(instance: Instance) -> None:
    """Write something to both servers."""
    redis.Redis(port=instance.redis_port).set("kept", "value")
    with psycopg.connect(instance.settings.database) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS answer")


def is_kept(instance: Instance) -> bool:
    with psycopg.connect(instance.settings.database) as connection:
        row = connection.execute("SELECT answer FROM kept").fetchone()
    return (redis.Redis(port=instance.redis_port).get("kept"), row) == (b"value", (42,))


@pytest.mark.parametrize("variable", ["SPILLWAY_REDIS_PORT", "SPILLWAY_POSTGRES_PORT"])
def test_a_port_in_use_is_refused_with_its_holder_before_anything_starts(shared: Instance, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        line = shared.error("up", "--engine", "docker", **{variable: str(port)})
    assert f"port {port}" in line
    assert f"(pid {os.getpid()})" in line
    assert f"set {variable} to a free port" in line
    assert shared.name not in ask("ps", "--all", "--format", "{{.Names}}")
    assert volumes(shared) == set()


def test_the_error_of_compose_is_quoted(shared: Instance, podman: Podman) -> None:
    name = f"{shared.name}-redis"
    podman.run("create", "--name", name, "redis:7-alpine")  # of another project
    try:
        line = shared.error("up", "--engine", "docker")
    finally:
        podman.run("rm", name)
    assert name in line
    assert "already in use" in line


def test_two_concurrent_ups_start_the_servers_once_and_a_third_changes_nothing(shared: Instance, compose: str) -> None:
    shared.engine.reset()
    ups = [shared.begin("up", "--engine", "docker") for _ in range(2)]
    outputs = [up.communicate(timeout=300) for up in ups]
    assert [up.returncode for up in ups] == [0, 0], outputs
    assert sorted("started by docker" in out for out, _ in outputs) == [False, True]
    for out, err in outputs:
        assert f"redis://127.0.0.1:{shared.redis_port}" in out
        assert f"analytics_user@127.0.0.1:{shared.postgres_port}/analytics" in out
        assert DATABASE_PASSWORD not in out + err
    for service in SERVICES:
        assert look(shared, service, '{{index .Config.Labels "com.docker.compose.version"}}').startswith(compose)
    with psycopg.connect(shared.settings.database) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (0,)

    before = started(shared)
    again = shared.run("up")
    assert again.returncode == 0, again
    assert "both servers are already running (docker)" in again.stdout
    assert started(shared) == before


def test_status_shows_both_servers_and_their_health_checks_pass(docker: Instance, podman: Podman) -> None:
    done = docker.run("status", PREFECT_API_URL="")
    assert done.returncode == 0, done
    assert done.stdout.count("healthy") == 2
    for word in (f"{docker.redis_port}", f"{docker.postgres_port}", "TimescaleDB 2.", "Redis "):
        assert word in done.stdout
    for volume in volumes(docker):
        assert volume in done.stdout
    for service in SERVICES:
        podman.run("healthcheck", "run", f"{docker.name}-{service}")  # raises if it fails


def test_clients_receive_arguments_and_input_and_return_their_exit_codes(docker: Instance) -> None:
    done = docker.run("psql", "-Atc", "SELECT current_user, current_database()")
    assert done.stdout == "analytics_user|analytics\n"
    assert docker.run("redis-cli", "ping").stdout == "PONG\n"
    assert docker.run("psql", "-v", "ON_ERROR_STOP=1", typed="SELECT 1/0;\n").returncode == 3


def test_generated_events_are_drained_into_the_table(docker: Instance, prefect_server: str) -> None:
    options = ("--stream", "events-web", "--duplicates", "0.05")
    assert docker.run("generate", "--events", "2000", *options).returncode == 0
    done = docker.run("drain", "--stream", "events-web")
    assert done.returncode == 0, done
    entries = [fields for _, fields in redis.Redis(port=docker.redis_port).xrange("events-web")]
    assert len(entries) == 2000
    with psycopg.connect(docker.settings.database) as connection:
        assert table_rows(connection) == flat_rows(entries)


def test_logs_of_one_server_and_of_both(docker: Instance) -> None:
    one = docker.run("logs", "timescaledb").stdout
    assert "database system is ready to accept connections" in one
    assert "Redis" not in one
    both = docker.run("logs").stdout
    assert "database system is ready to accept connections" in both
    assert "Ready to accept connections tcp" in both


def test_followed_logs_show_new_lines(docker: Instance) -> None:
    process = docker.begin("logs", "-f", "timescaledb")
    assert process.stdout is not None
    try:
        with psycopg.connect(docker.settings.database) as connection, pytest.raises(psycopg.Error):
            connection.execute("SELECT 'a mark'::int")
        assert any("a mark" in line for line in iter(process.stdout.readline, ""))
    finally:
        for pid in (process.pid, *child_pids(process.pid)):  # as Ctrl-C does
            os.kill(pid, signal.SIGINT)
        process.communicate(timeout=240)


def test_a_port_other_than_that_of_the_running_server_is_refused(docker: Instance) -> None:
    moved = type(docker.engine)(docker.settings.model_copy(update={"redis_port": docker.redis_port + 1}))
    with pytest.raises(Terminal, match=f"runs on port {docker.redis_port}, not {docker.redis_port + 1}"):
        moved.up()
    assert [one.port for one in moved.status()] == [docker.postgres_port, docker.redis_port]


def test_one_server_is_stopped_or_killed_and_started_while_the_other_runs(docker: Instance) -> None:
    keep(docker)
    for service in SERVICES:
        before = started(docker)
        docker.engine.stop(service)
        assert look(docker, service, "{{.State.ExitCode}}") == "0"  # 137: it was killed
        assert [one.state for one in docker.engine.status() if one.service == service] == ["stopped"]
        docker.engine.start(service)
        docker.engine.stop(service, "kill")
        docker.engine.start(service)
        assert is_kept(docker)
        changed = [one for one, was, now in zip(SERVICES, before, started(docker), strict=True) if was != now]
        assert changed == [service]


def test_restart_starts_new_processes_with_the_same_data(docker: Instance) -> None:
    keep(docker)
    before = started(docker)
    done = docker.run("restart")
    assert done.returncode == 0, done
    assert not set(before) & set(started(docker))
    assert is_kept(docker)


def test_down_waits_for_a_slow_checkpoint_and_keeps_the_volumes(docker: Instance) -> None:
    keep(docker)
    kept = volumes(docker)
    assert len(kept) == 2
    server = int(look(docker, "timescaledb", "{{.State.Pid}}"))
    (checkpointer,) = [
        pid for pid in child_pids(server) if b"checkpointer" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(checkpointer, signal.SIGSTOP)
    try:
        process = docker.begin("down")
        # Longer than the 10 s after which Docker kills by default.
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=14)
    finally:
        os.kill(checkpointer, signal.SIGCONT)
    out, err = process.communicate(timeout=240)
    assert "timescaledb and redis stopped" in out, err
    assert volumes(docker) == kept

    status = docker.run("status")
    assert (status.returncode, status.stdout.count("stopped")) == (1, 2)
    for command in (("psql", "-c", "SELECT 1"), ("redis-cli", "ping"), ("logs",)):
        assert "`spillway up`" in docker.error(*command)

    # Without --engine: what holds the data is preferred to what comes first.
    assert "started by docker" in docker.run("up").stdout
    assert is_kept(docker)
    log = docker.run("logs", "timescaledb").stdout
    assert "database system was shut down at" in log
    assert "not properly shut down" not in log


def test_reset_asks_for_confirmation_and_removes_the_volumes(docker: Instance) -> None:
    refused = docker.run("reset", typed="n\n")
    assert refused.returncode == 1
    assert len(volumes(docker)) == 2
    done = docker.run("reset", "--yes")
    assert done.returncode == 0, done
    assert volumes(docker) == set()
    assert docker.name not in ask("ps", "--all", "--format", "{{.Names}}")
