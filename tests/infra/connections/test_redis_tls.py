"""TLS as people run it: a private authority, client certificates, and the errors of a mismatch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from infra.connections.clients import redis_client
from infra.errors.exceptions import Terminal
from tests.support.certificates import make_certificates
from tests.support.ports import free_port
from tests.support.redis_server import PATIENCE, REDIS, redis_port, refusal, run_spillway, settings_of

pytestmark = pytest.mark.skipif(REDIS is None, reason="there is no redis-server on this machine")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls_port(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The TLS port and the plain port of a Redis that requires no certificate."""
    folder, tls = tmp_path_factory.mktemp("tls"), free_port()
    options = ["--tls-port", str(tls), "--tls-cert-file", f"{certificates}/server.pem", "--tls-key-file"]
    options += [
        f"{certificates}/server.key",
        "--tls-ca-cert-file",
        f"{certificates}/ca.pem",
        "--tls-auth-clients",
        "no",
    ]
    with redis_port(folder, *options) as port:
        yield tls, port


def test_a_private_authority_works_in_spillway_and_in_redis_cli(certificates: Path, tls_port: tuple[int, int]) -> None:
    for query in (f"ssl_ca_certs={certificates}/ca.pem", "ssl_cert_reqs=none&ssl_check_hostname=false"):
        url = f"rediss://127.0.0.1:{tls_port[0]}/3?{query}"
        with redis_client(settings_of(url)) as client:
            client.set("key", query)
        done = run_spillway(url, "redis-cli", "GET", "key")
        assert (done.returncode, done.stdout.strip()) == (0, query), done.stderr


def test_an_untrusted_certificate_is_refused_at_once_with_the_option_to_set(
    certificates: Path, tls_port: tuple[int, int]
) -> None:
    began = time.monotonic()
    for query in ("", f"?ssl_ca_certs={certificates}/other.pem"):
        said = str(refusal(f"rediss://127.0.0.1:{tls_port[0]}/0{query}"))
        assert "certificate verify failed" in said.lower()
        assert "?ssl_ca_certs=FILE" in said
    assert time.monotonic() - began < PATIENCE


def test_tls_to_a_plain_port_is_refused_at_once_with_the_reason(tls_port: tuple[int, int]) -> None:
    def connections() -> int:
        stats: Any = client.info("stats")
        return int(stats["total_connections_received"])

    url = f"rediss://127.0.0.1:{tls_port[1]}/0?ssl_cert_reqs=none"
    with redis.Redis(port=tls_port[1]) as client:
        before = connections()
        assert "does not speak TLS" in str(refusal(url, connect_timeout=5))
        assert connections() - before == 2, "it waited for the connect timeout once, and then asked without TLS"


def test_a_client_certificate_works_in_spillway_and_in_redis_cli(certificates: Path, tmp_path: Path) -> None:
    tls = free_port()
    options = ["--tls-port", str(tls), "--tls-cert-file", f"{certificates}/server.pem", "--tls-key-file"]
    options += [f"{certificates}/server.key", "--tls-ca-cert-file", f"{certificates}/ca.pem"]
    with redis_port(tmp_path / "mutual", *options):
        url = f"rediss://localhost:{tls}/0?ssl_ca_certs={certificates}/ca.pem"
        assert "ssl_certfile=FILE" in str(refusal(url))
        url += f"&ssl_certfile={certificates}/client.pem&ssl_keyfile={certificates}/client.key"
        with redis_client(settings_of(url)) as client:
            assert client.ping()
        assert run_spillway(url, "redis-cli", "ping").stdout == "PONG\n"


def test_a_missing_certificate_file_is_named_by_its_parameter() -> None:
    with pytest.raises(Terminal, match="the ssl_ca_certs of SPILLWAY_REDIS_URL does not exist"):
        redis_client(settings_of("rediss://127.0.0.1:1/0?ssl_ca_certs=/no/such/file"))
