"""The commands for the servers, with every engine that works on this machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from infra.errors.exceptions import Terminal
from infra.servers.choose import choose_engine, last_engine, running_engine
from infra.servers.engine import SERVICES, Service
from infra.settings import DATABASE_PASSWORD
from tests.support.instances import Instance


def pids(instance: Instance) -> list[int | None]:
    return [instance.engine._existing(service).pid() for service in SERVICES]  # type: ignore[attr-defined]


def sql(instance: Instance, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(instance.settings.database, autocommit=True) as connection:
        cursor = connection.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def test_two_concurrent_ups_start_the_servers_once_and_reset_removes_everything(fresh: Instance) -> None:
    ups = [fresh.begin("up", "--engine", fresh.engine_name) for _ in range(2)]
    outputs = [up.communicate(timeout=300) for up in ups]
    assert [up.returncode for up in ups] == [0, 0], outputs
    assert sorted("started by" in out for out, _ in outputs) == [False, True]
    for out, err in outputs:
        assert f"redis://127.0.0.1:{fresh.redis_port}" in out
        assert f"analytics_user@127.0.0.1:{fresh.postgres_port}/analytics" in out
        assert DATABASE_PASSWORD not in out + err
    assert sql(fresh, "SELECT count(*) FROM events") == [(0,)]

    kept = fresh.run("reset", typed="n\n")
    assert kept.returncode == 1
    assert "Remove it?" in kept.stdout
    assert None not in pids(fresh)

    data = fresh.engine.data()
    assert data is not None
    assert fresh.run("reset", "--yes").returncode == 0
    assert pids(fresh) == [None, None]
    assert not Path(data).exists()
    assert [path for path in fresh.state_dir.iterdir() if fresh.name in path.name] == []
    assert last_engine(fresh.settings) is None


def test_a_second_up_changes_nothing(local: Instance) -> None:
    before = pids(local)
    done = local.run("up")
    assert done.returncode == 0
    assert f"both servers are already running ({local.engine_name})" in done.stdout
    assert pids(local) == before


def test_status_shows_both_servers(local: Instance) -> None:
    assert local.run("schema").returncode == 0  # without the tables, that would be what needs attention
    done = local.run("status", PREFECT_API_URL="")
    assert done.returncode == 0, done.stderr
    for word in ("timescaledb", "redis", "TimescaleDB 2.", str(local.redis_port), str(local.postgres_port)):
        assert word in done.stdout
    assert done.stdout.count("healthy") == 2


def test_clients_receive_their_arguments_and_return_their_exit_codes(local: Instance) -> None:
    done = local.run("psql", "-Atc", "SELECT current_user, current_database()")
    assert done.stdout == "analytics_user|analytics\n"
    assert local.run("redis-cli", "ping").stdout == "PONG\n"
    assert "psql is the PostgreSQL interactive terminal" in local.run("psql", "--help").stdout
    # What is typed reaches it as well.
    assert local.run("psql", "-v", "ON_ERROR_STOP=1", typed="SELECT 1/0;\n").returncode == 3


def test_data_survives_down_and_up(local: Instance) -> None:
    redis.Redis(port=local.redis_port).set("kept", "value")
    sql(local, "CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS answer")
    assert "timescaledb and redis stopped" in local.run("down").stdout
    assert pids(local) == [None, None]

    status = local.run("status")
    assert (status.returncode, status.stdout.count("stopped")) == (1, 2)
    assert "start it with `spillway up`" in local.error("psql", "-c", "SELECT 1")

    # Without --engine: what holds the data is preferred to what comes first.
    assert f"started by {local.engine_name}" in local.run("up").stdout
    assert redis.Redis(port=local.redis_port).get("kept") == b"value"
    assert sql(local, "SELECT answer FROM kept") == [(42,)]


def test_restart_starts_new_processes(local: Instance) -> None:
    before = pids(local)
    assert local.run("restart").returncode == 0
    after = pids(local)
    assert None not in after
    assert not set(before) & set(after)


def test_logs_of_one_server_and_of_both(local: Instance) -> None:
    both = local.run("logs").stdout
    assert "timescaledb | " in both
    assert "redis       | " in both
    one = local.run("logs", "timescaledb").stdout
    assert "database system is ready to accept connections" in one
    assert " | " not in one.splitlines()[0]


def test_followed_logs_show_new_lines(local: Instance) -> None:
    process = local.begin("logs", "-f", "timescaledb")
    assert process.stdout is not None
    try:
        with psycopg.connect(local.settings.database) as connection, pytest.raises(psycopg.Error):
            connection.execute("SELECT 'a mark'::int")
        lines = iter(process.stdout.readline, "")
        assert any("a mark" in line for line in lines)
    finally:
        process.terminate()
        process.communicate(timeout=240)


@pytest.mark.parametrize("how", ["immediate", "kill"])
@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_server_restarts_with_all_acknowledged_data(local: Instance, service: Service, how: str) -> None:
    client = redis.Redis(port=local.redis_port)
    client.delete("acknowledged")
    sql(local, "DROP TABLE IF EXISTS acknowledged")
    sql(local, "CREATE TABLE acknowledged AS SELECT 1")
    client.xadd("acknowledged", {"field": "value"})

    local.engine.stop(service, how)  # type: ignore[arg-type]
    assert [one.state for one in local.engine.status() if one.service == service] == ["stopped"]
    assert running_engine(local.settings) is not None
    local.engine.start(service)

    assert client.xlen("acknowledged") == 1
    assert sql(local, "SELECT count(*) FROM acknowledged") == [(1,)]


def test_the_servers_listen_on_localhost_only_and_do_not_run_as_root(local: Instance) -> None:
    for port in (local.redis_port, local.postgres_port):
        listening = [one.laddr for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
        assert [address for address, number in listening if number == port] == ["127.0.0.1"]
        with pytest.raises(OSError, match=r"refused"), socket.create_connection(("127.0.0.2", port), timeout=60):
            pass
    for pid in pids(local):
        assert Path(f"/proc/{pid}").stat().st_uid != 0 or os.geteuid() != 0


def test_the_database_requires_a_password(local: Instance) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(local.settings.database.replace(DATABASE_PASSWORD, "wrong"))


def test_a_port_other_than_that_of_the_running_server_is_refused(local: Instance) -> None:
    moved = type(local.engine)(local.settings.model_copy(update={"redis_port": local.redis_port + 1}))
    with pytest.raises(Terminal, match=f"runs on port {local.redis_port}, not {local.redis_port + 1}"):
        moved.up()


def test_an_engine_other_than_the_running_one_is_refused(local: Instance) -> None:
    # A second engine would need the same ports.
    with pytest.raises(Terminal, match=f"{local.engine_name} already runs the instance .*; run `spillway down` first"):
        choose_engine(local.settings, "docker")


@pytest.mark.parametrize("variable", ["SPILLWAY_REDIS_PORT", "SPILLWAY_POSTGRES_PORT"])
def test_a_port_in_use_is_refused_with_its_holder_before_anything_starts(fresh: Instance, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        field = variable.removeprefix("SPILLWAY_").lower()
        engine = type(fresh.engine)(fresh.settings.model_copy(update={field: port}))
        with pytest.raises(Terminal) as caught:
            engine.up()
    line = str(caught.value)
    assert f"port {port}" in line
    assert f"(pid {os.getpid()})" in line
    assert f"set {variable} to a free port" in line
    assert pids(fresh) == [None, None]


def test_the_log_of_a_database_that_fails_to_start_is_quoted(local: Instance) -> None:
    local.engine.down()
    conf = local.engine._existing("timescaledb").data / "postgresql.conf"  # type: ignore[attr-defined]
    conf = local.engine.host.outside(conf)  # type: ignore[attr-defined]
    before = conf.read_text()
    conf.write_text(before + "work_mem = 'plenty'\n")
    try:
        line = local.error("up")
    finally:
        conf.write_text(before)
    assert 'invalid value for parameter "work_mem": "plenty"' in line
    assert "server.log" in line


def test_the_log_of_a_redis_that_fails_to_start_is_quoted(local: Instance) -> None:
    local.engine.down()
    server = local.engine._existing("redis")  # type: ignore[attr-defined]
    manifest = server.host.outside(server.data) / "appendonlydir/appendonly.aof.manifest"
    before = manifest.read_bytes()
    manifest.write_bytes(b"not a manifest\n")
    try:
        line = local.error("up")
    finally:
        manifest.write_bytes(before)
    assert "redis did not start: it ended while starting" in line
    assert "manifest" in line
