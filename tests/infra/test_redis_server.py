"""Redis as people run it: TLS with an authority of their own, a socket, users, a Cluster, a Sentinel, a replica."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import redis

from infra.connections import Clients, redis_client
from infra.errors import Terminal, Transient
from infra.producers.send import send
from infra.redis_server import UnfitServer, open_redis
from infra.servers.external import External
from infra.settings import Settings
from infra.urls import read_redis_url
from infra.versions import unfit_database, unfit_redis
from tasks.preflight.servers import check_servers
from tasks.stream import find_streams
from tests.conftest import BIN, Servers
from tests.infra.servers.conftest import free_port

REDIS = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(REDIS is None, reason="there is no redis-server on this machine")


@contextmanager
def running(*options: str, answers: Callable[[], object]) -> Iterator[None]:
    """A Redis of these options, from when it answers."""
    command = [str(REDIS), "--save", "", "--appendonly", "no", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                answers()
                break
            except redis.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def plain(folder: Path, *options: str) -> Iterator[int]:
    """The port of a Redis with these options."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    common = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder))
    with redis.Redis(port=port) as client, running(*common, *options, answers=client.ping):
        yield port


def settings_of(url: str, **values: object) -> Settings:
    return Settings(redis_url=url, connect_timeout=5, redis_timeout=5, _env_file=None, **values)  # type: ignore[arg-type]


def run(url: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SPILLWAY_REDIS_URL": url, "SPILLWAY_CONNECT_TIMEOUT": "5"} | variables
    return subprocess.run(
        [BIN / "spillway", *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def refusal(url: str) -> Terminal:
    with pytest.raises(Terminal) as refused, Clients(settings_of(url)) as clients, clients.explained("look"):
        clients.redis.ping()
    return refused.value


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority `ca.pem` and what it signed: `server` for 127.0.0.1 and localhost, `client`. `other`: not known."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for authority in ("ca", "other"):
        openssl(*f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={authority} -keyout".split(),
                f"{authority}.key", "-out", f"{authority}.pem")  # fmt: skip
    for name in ("server", "client"):
        openssl(*f"req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr".split())
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        signed = f"-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.pem"
        openssl(*f"x509 -req -in {name}.csr {signed}".split())
    return folder


@pytest.fixture(scope="module")
def tls_port(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The ports of a Redis that asks for no certificate: TLS, and plain."""
    folder, tls = tmp_path_factory.mktemp("tls"), free_port()
    options = ["--tls-port", str(tls), "--tls-cert-file", f"{certificates}/server.pem", "--tls-key-file"]
    options += [
        f"{certificates}/server.key",
        "--tls-ca-cert-file",
        f"{certificates}/ca.pem",
        "--tls-auth-clients",
        "no",
    ]
    with plain(folder, *options) as port:
        yield tls, port


def test_a_private_authority_and_its_options_work_here_and_in_redis_cli(
    certificates: Path, tls_port: tuple[int, int]
) -> None:
    for query in (f"ssl_ca_certs={certificates}/ca.pem", "ssl_cert_reqs=none&ssl_check_hostname=false"):
        url = f"rediss://127.0.0.1:{tls_port[0]}/3?{query}"
        with redis_client(settings_of(url)) as client:
            client.set("key", query)
        done = run(url, "redis-cli", "GET", "key")
        assert (done.returncode, done.stdout.strip()) == (0, query), done.stderr


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once_with_what_to_set(
    certificates: Path, tls_port: tuple[int, int]
) -> None:
    began = time.monotonic()
    for query in ("", f"?ssl_ca_certs={certificates}/other.pem"):
        said = str(refusal(f"rediss://127.0.0.1:{tls_port[0]}/0{query}"))
        assert "certificate verify failed" in said.lower()
        assert "?ssl_ca_certs=FILE" in said
    assert time.monotonic() - began < 5


def test_tls_to_a_plain_port_is_refused_at_once_and_says_so(tls_port: tuple[int, int]) -> None:
    began = time.monotonic()
    assert "does not speak TLS" in str(refusal(f"rediss://127.0.0.1:{tls_port[1]}/0?ssl_cert_reqs=none"))
    assert time.monotonic() - began < 10, "the connect timeout, once"


def test_a_server_that_wants_a_certificate_gets_it_here_and_in_redis_cli(certificates: Path, tmp_path: Path) -> None:
    tls = free_port()
    options = ["--tls-port", str(tls), "--tls-cert-file", f"{certificates}/server.pem", "--tls-key-file"]
    options += [f"{certificates}/server.key", "--tls-ca-cert-file", f"{certificates}/ca.pem"]
    with plain(tmp_path / "mutual", *options):
        url = f"rediss://localhost:{tls}/0?ssl_ca_certs={certificates}/ca.pem"
        assert "ssl_certfile=FILE" in str(refusal(url))
        url += f"&ssl_certfile={certificates}/client.pem&ssl_keyfile={certificates}/client.key"
        with redis_client(settings_of(url)) as client:
            assert client.ping()
        assert run(url, "redis-cli", "ping").stdout == "PONG\n"


def test_a_file_of_certificates_that_is_not_there_is_named_by_its_parameter() -> None:
    with pytest.raises(Terminal, match="the ssl_ca_certs of SPILLWAY_REDIS_URL is not there"):
        redis_client(settings_of("rediss://127.0.0.1:1/0?ssl_ca_certs=/no/such/file"))


# --- sockets and users -----------------------------------------------------------------------------------------------


def test_a_unix_socket_a_user_and_a_database_number_work_in_every_client(tmp_path: Path) -> None:
    socket = tmp_path / "r.sock"
    with plain(tmp_path, "--unixsocket", str(socket)) as port:
        with redis.Redis(port=port, db=2) as client:
            send(client, "s", [{b"data": b"x"}])
            client.acl_setuser("ann@example", enabled=True, passwords=["+p/w?#@"], keys=["*"], commands=["+@all"])
        url = f"unix://ann%40example:p%2Fw%3F%23%40@{socket}?db=2"
        with redis_client(settings_of(url)) as client:
            assert find_streams(client, ["s"])[0] == ["s"]
            assert client.acl_whoami() in ("ann@example", b"ann@example")
        assert run(url, "redis-cli", "XLEN", "s").stdout.strip() in ("1", "(integer) 1")
        assert read_redis_url(url).where == str(socket)
        redis_of_it = External(settings_of(url, database_url="postgresql://127.0.0.1:1/d")).status()[1]
        assert (redis_of_it.state, redis_of_it.port) == ("healthy", 0)


@pytest.mark.parametrize("user", ["default", "ann"])
def test_status_distinguishes_a_server_that_refuses_us_from_one_that_is_away(tmp_path: Path, user: str) -> None:
    with plain(tmp_path) as port, redis.Redis(port=port) as client:
        client.acl_setuser("ann", enabled=True, passwords=["+right"], commands=["+@all"])
        client.config_set("requirepass", "right")
        client.auth("right")
        url = f"redis://{user}:wrong-word@127.0.0.1:{port}/0"
        found = External(settings_of(url, database_url="postgresql://127.0.0.1:1/d")).status()
        assert [one.state for one in found] == ["stopped", "refuses us"]
        assert "mend SPILLWAY_REDIS_URL" in found[1].note
        assert "wrong-word" not in found[1].note
        client.config_set("requirepass", "")


def test_status_says_the_same_of_a_database(servers: Servers) -> None:
    url = re.sub("//[^@]*@", "//analytics_user:not-the-word@", servers.settings.database)
    found = External(servers.settings.model_copy(update={"database_url": Settings(
        database_url=url, _env_file=None).database_url})).status()  # fmt: skip
    assert [one.state for one in found] == ["refuses us", "healthy"]
    assert "not-the-word" not in found[0].note


@pytest.mark.parametrize(
    ("reply", "passing", "step"),
    [
        ("NOAUTH Authentication required.", False, "put user and password"),
        ("WRONGPASS invalid username-password pair or user is disabled.", False, "mend user and password"),
        ("NOPERM this user has no permissions to run the 'xinfo' command", False, "ACL SETUSER"),
        ("LOADING Redis is loading the dataset in memory", True, "loaded its data"),
        ("MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.", True, "free space"),
        ("BUSY Redis is busy running a script.", True, "SCRIPT KILL"),
        ("OOM command not allowed when used memory > 'maxmemory'.", True, "raise Redis's maxmemory"),
        ("NOREPLICAS Not enough good replicas to write.", True, "replicas"),
        ("READONLY You can't write against a read only replica.", True, "point SPILLWAY_REDIS_URL at the primary"),
        ("ERR max number of clients reached", True, "raise Redis's maxclients"),
        ("BUSYGROUP Consumer Group name already exists", False, "docs/operations.md"),
        ("DENIED Redis is running in protected mode", False, "protected-mode"),
    ],
)
def test_each_code_of_an_error_is_of_the_right_kind_with_its_own_next_step(
    reply: str, passing: bool, step: str
) -> None:
    from redis._parsers.base import BaseParser

    error = BaseParser.parse_error(reply)
    with pytest.raises(Transient if passing else Terminal, match=re.escape(step)):  # noqa: SIM117
        with Clients(settings_of("redis://127.0.0.1:1/0")) as clients, clients.explained("look"):
            raise error


# --- what Spillway cannot work with ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Two nodes of one Redis Cluster, each with half of the slots."""
    folder = tmp_path_factory.mktemp("cluster")
    options = ("--cluster-enabled", "yes")
    with plain(folder / "a", *options) as a, plain(folder / "b", *options) as b:
        with redis.Redis(port=a) as first, redis.Redis(port=b) as second:
            first.execute_command("CLUSTER ADDSLOTSRANGE", 0, 8191)
            second.execute_command("CLUSTER ADDSLOTSRANGE", 8192, 16383)
            second.execute_command("CLUSTER SET-CONFIG-EPOCH", 2)
            first.execute_command("CLUSTER MEET", "127.0.0.1", b)
            deadline = time.monotonic() + 30
            while not all(one.execute_command("CLUSTER INFO")["cluster_state"] == "ok" for one in (first, second)):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            for name in ("{a}1", "{b}2", "{c}3"):
                for one in (first, second):
                    with suppress(redis.exceptions.MovedError):
                        one.xadd(name, {"data": "x"})
        yield a, b


def test_a_node_of_a_cluster_is_refused_by_every_command_before_anything_is_read_or_written(
    cluster: tuple[int, int], servers: Servers, database: psycopg.Connection, tmp_path: Path
) -> None:
    url = f"redis://127.0.0.1:{cluster[0]}/0"
    lines = tmp_path / "lines.ndjson"
    lines.write_text('{"a":1}\n')
    variables = {
        "SPILLWAY_DATABASE_URL": servers.settings.database,
        "PREFECT_API_URL": "",
        "SPILLWAY_RETRIES": "0",
    }
    for command in (
        ["produce", str(lines), "--stream", "{b}2"],
        ["generate", "--events", "5", "--stream", "{a}1"],
        ["up"],
        ["status"],
    ):
        done = run(url, *command, **variables)
        assert done.returncode == 1, command
        assert "node of a Redis Cluster" in done.stderr, (command, done.stderr)
        assert "Traceback" not in done.stderr
    with Clients(settings_of(url, database_url=servers.settings.database)) as clients:
        for wanted in (["*"], ["{a}1"], ["{b}2"]):
            with pytest.raises(Terminal, match="node of a Redis Cluster"), clients.explained("preflight"):
                find_streams(clients.redis, wanted)
    assert database.execute("SELECT count(*) FROM spillway.streams").fetchone() == (0,)
    with redis.Redis(port=cluster[0]) as client:
        assert sum(client.xlen(key) for key in client.keys("*")) == len(client.keys("*")), "nothing was added"


def test_a_database_number_on_a_cluster_is_refused_for_the_cluster(cluster: tuple[int, int]) -> None:
    assert "node of a Redis Cluster" in str(refusal(f"redis://127.0.0.1:{cluster[0]}/1"))


def test_a_sentinel_is_refused(tmp_path: Path) -> None:
    port = free_port()
    conf = tmp_path / "sentinel.conf"
    conf.write_text(f"port {port}\ndir {tmp_path}\n")
    with redis.Redis(port=port) as client:
        process = subprocess.Popen([str(REDIS), str(conf), "--sentinel"], stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            assert "it is a Sentinel" in str(refusal(f"redis://127.0.0.1:{port}/0"))
        finally:
            process.terminate()
            process.wait(20)


def test_a_replica_is_drained_with_a_warning(tmp_path: Path, database: psycopg.Connection) -> None:
    with plain(tmp_path / "primary") as primary, plain(tmp_path / "replica") as port:
        with redis.Redis(port=port) as client:
            client.replicaof("127.0.0.1", primary)
            deadline = time.monotonic() + 20
            while client.info("replication").get("master_link_status") != "up":
                assert time.monotonic() < deadline
                time.sleep(0.1)
            warnings = check_servers(client, database)
        assert any("is a replica of 127.0.0.1" in said for said in warnings)


@pytest.mark.parametrize(
    ("version", "fits"), [("6.2.14", False), ("7.0.15", True), ("8.2.1", True), ("7.2.4", True), ("10.0.0", True)]
)
def test_a_redis_before_7_is_unfit(version: str, fits: bool) -> None:
    assert (unfit_redis(version) is None) is fits


@pytest.mark.parametrize(
    ("postgres", "timescale", "fits"),
    [
        (140010, "2.18.1", False), (150006, "2.18.0", False), (150006, "2.17.2", False), (150006, "2.18.1", True),
        (180000, "2.29.2-dev", True), (150000, None, True),
    ],
)  # fmt: skip
def test_a_database_that_is_too_old_is_unfit(postgres: int, timescale: str | None, fits: bool) -> None:
    assert (unfit_database(postgres, timescale) is None) is fits


_OLD = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = server.accept()
    while data := connection.recv(4096):
        text = b"# Server\\r\\nredis_version:6.2.14\\r\\nredis_mode:standalone\\r\\n"
        for _ in range(data.count(b"*")):
            info = b"INFO" in data
            connection.sendall(b"$%d\\r\\n%b\\r\\n" % (len(text), text) if info else b"+OK\\r\\n")
"""


def test_up_and_status_do_not_call_a_redis_6_healthy(servers: Servers) -> None:
    """There is no such Redis to install here: what answers has its words in the protocol."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", _OLD, str(port)])
    try:
        time.sleep(0.5)
        url = f"redis://127.0.0.1:{port}/0"
        with (
            pytest.raises(UnfitServer, match=r"version 6\.2\.14, expected 7\.0 or later"),
            open_redis(url, 5, 5) as old,
        ):
            old.ping()
        external = External(settings_of(url, database_url=servers.settings.database))
        with pytest.raises(Terminal, match=r"expected 7\.0 or later"):
            external.up()
        assert external.status()[1].state == "unfit"
    finally:
        process.kill()
        process.wait()
