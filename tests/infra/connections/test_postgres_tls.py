"""PostgreSQL with TLS as people run it: a private authority, client certificates, and the errors of a mismatch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest
import redis

from infra.connections.clients import Clients
from infra.errors.exceptions import Terminal
from infra.schema.migrate import apply_schema
from infra.servers.process import ProcessEngine
from infra.settings import DATABASE, DATABASE_USER, Settings
from tests.support.certificates import make_certificates
from tests.support.oracle import table_rows
from tests.support.physical_postgres import PhysicalPostgres, physical_servers
from tests.support.redis_server import PATIENCE, run_spillway
from tests.support.servers import Servers
from tests.support.stream_entries import add_entries

# The certificate `client` names the role, which needs its password too.
USER, PASSWORD = "client", "correct-horse"
_RULES = f"""\
hostssl all {USER} all scram-sha-256 clientcert=verify-full
host all {DATABASE_USER} 127.0.0.1/32 scram-sha-256
local all all trust
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_certificates(tmp_path_factory.mktemp("certificates"))
    for key in folder.glob("*.key"):
        key.chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def server(servers: Servers, certificates: Path) -> Iterator[PhysicalPostgres]:
    """A server with the schema that lets `client` in by TLS only, with a certificate of its own."""
    if not isinstance(servers.engine, ProcessEngine):
        pytest.skip("the server is a process of this machine")
    with physical_servers(servers.engine) as physical:
        made = physical.new("tls", ssl="on", ssl_ca_file="ca.crt")
        made.create_files()
        for name, source in (("server.crt", "server.pem"), ("server.key", "server.key"), ("ca.crt", "ca.pem")):
            made.write(name, (certificates / source).read_text())
        made.write("pg_hba.conf", _RULES)
        made.up()
        apply_schema(made.url)
        with made.connect() as connection:
            connection.execute(f"CREATE ROLE {USER} LOGIN SUPERUSER PASSWORD '{PASSWORD}'".encode())
        yield made


@pytest.fixture
def url(server: PhysicalPostgres, certificates: Path) -> Callable[..., str]:
    """The URL for `client`; options of libpq change it, and None leaves one out."""

    def build(password: str = f":{PASSWORD}", host: str = "localhost", **options: str | None) -> str:
        of_files = {"sslrootcert": "ca.pem", "sslcert": "client.pem", "sslkey": "client.key"} | options
        query = {name: str(certificates / value) for name, value in of_files.items() if value is not None}
        query = {"sslmode": "verify-full"} | query
        if host != "localhost":
            query["hostaddr"] = "127.0.0.1"  # no resolver is asked for the name
        return f"postgresql://{USER}{password}@{host}:{server.number}/{DATABASE}?{urlencode(query)}"

    return build


def refusal(url: str) -> str:
    """The message of a connection that fails at once, and that a step would not try again."""
    began = time.monotonic()
    config = Settings(database_url=url, connect_timeout=PATIENCE, _env_file=None)
    with (
        pytest.raises(Terminal) as refused,
        Clients(config, "drain") as clients,
        clients.translate_errors("look"),
        clients.postgres(),
    ):
        pass
    assert time.monotonic() - began < PATIENCE
    message = str(refused.value)
    assert PASSWORD not in message
    return message


@pytest.mark.usefixtures("prefect_server")
def test_a_drain_works_with_a_private_authority_and_a_client_certificate(
    url: Callable[..., str], server: PhysicalPostgres, servers: Servers, redis_client: redis.Redis
) -> None:
    add_entries(redis_client, "web", 0, 10)
    done = run_spillway(servers.settings.redis, "drain", "--stream", "web", SPILLWAY_DATABASE_URL=url())
    assert done.returncode == 0, done.stderr
    with server.connect() as connection:
        assert len(table_rows(connection)) == 10
    with psycopg.connect(url()) as connection:
        row = connection.execute("SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    assert row == (True, "/CN=client")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sslrootcert": "other.pem"}, "certificate verify failed"),
        ({"host": "db.example.com"}, 'server certificate for "127.0.0.1" (and 1 other name) does not match host name'),
        ({"sslcert": None, "sslkey": None}, "client certificate"),
        ({"sslcert": "stranger.pem", "sslkey": "stranger.key"}, "unknown ca"),
    ],
    ids=["authority", "host name", "no client certificate", "client certificate of another authority"],
)
def test_a_mismatch_is_one_error_that_names_the_options_to_fix(
    url: Callable[..., str], change: dict[str, str | None], reason: str
) -> None:
    message = refusal(url(**change))
    assert reason in message
    assert "sslcert, sslkey" in message


@pytest.mark.usefixtures("prefect_server")
def test_a_drain_reports_a_mismatch_once_and_does_not_try_again(
    url: Callable[..., str], servers: Servers, redis_client: redis.Redis
) -> None:
    add_entries(redis_client, "web", 0, 1)
    mine = url(sslrootcert="other.pem")
    done = run_spillway(servers.settings.redis, "drain", "--stream", "web", SPILLWAY_DATABASE_URL=mine)
    shown = done.stdout + done.stderr
    assert done.returncode != 0
    assert [line[:6] for line in shown.splitlines() if "certificate verify failed" in line] == ["error:"]
    assert "retry" not in shown.lower()
    assert PASSWORD not in shown


def test_the_password_may_be_in_the_file_of_libpq(
    url: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pgpass"
    file.write_text(f"localhost:*:{DATABASE}:{USER}:{PASSWORD}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    with Clients(Settings(database_url=url(password=""), _env_file=None)) as clients, clients.postgres() as connection:
        assert connection.execute("SELECT current_user").fetchone() == (USER,)


def test_a_password_file_that_others_may_read_is_named_with_what_to_type(
    url: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pgpass"
    file.write_text(f"localhost:*:{DATABASE}:{USER}:{PASSWORD}\n")
    file.chmod(0o644)
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert "no password supplied" in refusal(url(password=""))
    warned = capfd.readouterr().err
    assert warned.count(f"chmod 600 {file}") == 1
    assert PASSWORD not in warned
