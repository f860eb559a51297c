"""Redis as people run it: a socket, users, a replica, and a server that denies access."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis

from infra.connections.clients import Clients, redis_client
from infra.errors.exceptions import Terminal, Transient
from infra.producers.send import send
from infra.servers.external import ExternalEngine
from infra.settings import Settings
from infra.urls import read_redis_url
from tasks.streams.find import find_streams
from tests.support.redis_server import REDIS, redis_port, run_spillway, settings_of
from tests.support.servers import Servers

pytestmark = pytest.mark.skipif(REDIS is None, reason="there is no redis-server on this machine")


def test_a_unix_socket_a_user_and_a_database_number_work_in_every_client(tmp_path: Path) -> None:
    socket = tmp_path / "r.sock"
    with redis_port(tmp_path, "--unixsocket", str(socket)) as port:
        with redis.Redis(port=port, db=2) as client:
            send(client, "s", [{b"data": b"x"}])
            client.acl_setuser("ann@example", enabled=True, passwords=["+p/w?#@"], keys=["*"], commands=["+@all"])
        url = f"unix://ann%40example:p%2Fw%3F%23%40@{socket}?db=2"
        with redis_client(settings_of(url)) as client:
            assert find_streams(client, ["s"])[0] == ["s"]
            assert client.acl_whoami() in ("ann@example", b"ann@example")
        assert run_spillway(url, "redis-cli", "XLEN", "s").stdout.strip() in ("1", "(integer) 1")
        assert read_redis_url(url).where == str(socket)
        redis_of_it = ExternalEngine(settings_of(url, database_url="postgresql://127.0.0.1:1/d")).status()[1]
        assert (redis_of_it.state, redis_of_it.port) == ("healthy", 0)


@pytest.mark.parametrize("user", ["default", "ann"])
def test_status_distinguishes_a_server_that_denies_access_from_one_that_is_down(tmp_path: Path, user: str) -> None:
    with redis_port(tmp_path) as port, redis.Redis(port=port) as client:
        client.acl_setuser("ann", enabled=True, passwords=["+right"], commands=["+@all"])
        client.config_set("requirepass", "right")
        client.auth("right")
        url = f"redis://{user}:wrong-word@127.0.0.1:{port}/0"
        found = ExternalEngine(settings_of(url, database_url="postgresql://127.0.0.1:1/d")).status()
        assert [one.state for one in found] == ["stopped", "access denied"]
        assert "fix SPILLWAY_REDIS_URL" in found[1].note
        assert "wrong-word" not in found[1].note
        client.config_set("requirepass", "")


def test_status_reports_a_database_that_denies_access(servers: Servers) -> None:
    url = re.sub("//[^@]*@", "//analytics_user:not-the-word@", servers.settings.database)
    found = ExternalEngine(servers.settings.model_copy(update={"database_url": Settings(
        database_url=url, _env_file=None).database_url})).status()  # fmt: skip
    assert [one.state for one in found] == ["access denied", "healthy"]
    assert "not-the-word" not in found[0].note


@pytest.mark.parametrize(
    ("reply", "passing", "step"),
    [
        ("NOAUTH Authentication required.", False, "put user and password"),
        ("WRONGPASS invalid username-password pair or user is disabled.", False, "fix user and password"),
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
def test_each_error_code_is_classified_and_has_its_own_next_step(reply: str, passing: bool, step: str) -> None:
    from redis._parsers.base import BaseParser

    error = BaseParser.parse_error(reply)
    with pytest.raises(Transient if passing else Terminal, match=re.escape(step)):  # noqa: SIM117
        with Clients(settings_of("redis://127.0.0.1:1/0")) as clients, clients.translate_errors("look"):
            raise error
