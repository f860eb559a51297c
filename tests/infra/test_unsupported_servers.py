"""Unsupported servers are refused before anything is read: a Sentinel, an old version."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis

from infra.connections.redis_client import open_redis
from infra.connections.redis_connection import UnsupportedServer
from infra.errors.exceptions import Terminal
from infra.servers.external import ExternalEngine
from infra.versions import unsupported_database, unsupported_redis
from tasks.preflight.server_versions import check_servers
from tests.support.ports import free_port
from tests.support.redis_server import PATIENCE, REDIS, await_answer, redis_port, refusal, settings_of
from tests.support.servers import Servers
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(REDIS is None, reason="there is no redis-server on this machine")


def test_a_sentinel_is_refused(tmp_path: Path) -> None:
    port = free_port()
    conf = tmp_path / "sentinel.conf"
    conf.write_text(f"port {port}\ndir {tmp_path}\n")
    with redis.Redis(port=port) as client:
        process = subprocess.Popen([str(REDIS), str(conf), "--sentinel"], stdout=subprocess.DEVNULL)
        try:
            await_answer(client.ping)
            assert "it is a Sentinel" in str(refusal(f"redis://127.0.0.1:{port}/0"))
        finally:
            process.terminate()
            process.wait(120)


def test_a_replica_is_drained_with_a_warning(tmp_path: Path, database: psycopg.Connection) -> None:
    with redis_port(tmp_path / "primary") as primary, redis_port(tmp_path / "replica") as port:
        with redis.Redis(port=port) as client:
            client.replicaof("127.0.0.1", primary)
            wait_until(lambda: client.info("replication").get("master_link_status") == "up")
            warnings = check_servers(client, database)
        assert any("is a replica of 127.0.0.1" in said for said in warnings)


@pytest.mark.parametrize(
    ("version", "fits"), [("6.2.14", False), ("7.0.15", True), ("8.2.1", True), ("7.2.4", True), ("10.0.0", True)]
)
def test_a_redis_before_7_is_not_supported(version: str, fits: bool) -> None:
    assert (unsupported_redis(version) is None) is fits


@pytest.mark.parametrize(
    ("postgres", "timescale", "fits"),
    [
        (140010, "2.18.1", False), (150006, "2.18.0", False), (150006, "2.17.2", False), (150006, "2.18.1", True),
        (180000, "2.29.2-dev", True), (150000, None, True),
    ],
)  # fmt: skip
def test_a_database_that_is_too_old_is_not_supported(postgres: int, timescale: str | None, fits: bool) -> None:
    assert (unsupported_database(postgres, timescale) is None) is fits


_OLD = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listens", flush=True)
while True:
    connection, _ = server.accept()
    while data := connection.recv(4096):
        text = b"# Server\\r\\nredis_version:6.2.14\\r\\nredis_mode:standalone\\r\\n"
        for _ in range(data.count(b"*")):
            info = b"INFO" in data
            connection.sendall(b"$%d\\r\\n%b\\r\\n" % (len(text), text) if info else b"+OK\\r\\n")
"""


def test_up_and_status_refuse_a_redis_6(servers: Servers) -> None:
    """A stand-in that speaks the protocol: no Redis 6 can be installed here."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", _OLD, str(port)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listens\n"
        url = f"redis://127.0.0.1:{port}/0"
        with (
            pytest.raises(UnsupportedServer, match=r"version 6\.2\.14, expected 7\.0 or later"),
            open_redis(url, PATIENCE, PATIENCE) as old,
        ):
            old.ping()
        external = ExternalEngine(settings_of(url, database_url=servers.settings.database))
        with pytest.raises(Terminal, match=r"expected 7\.0 or later"):
            external.up()
        assert external.status()[1].state == "unsupported"
    finally:
        process.kill()
        process.wait()
