"""`spillway grants` prints the rights that preflight checks, and an ACL that Redis understands."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest
import redis

from infra.settings import Settings
from tasks.preflight.rights import rights, statements
from tests.support.command_line import RunSpillway
from tests.support.redis_user import USER, set_user
from tests.support.servers import Servers

REDIS_CLI = shutil.which("redis-cli")
ROLE, DATABASE = "spillway_least", "rights"


def test_the_command_prints_the_same_statements(command_line: RunSpillway, configure: Callable[..., Settings]) -> None:
    """No server is asked: the database of the URL need not exist."""
    configure(database_url=f"postgresql://somebody@127.0.0.1:1/{DATABASE}")
    code, out, _ = command_line("grants", ROLE)
    assert code == 0
    assert out.splitlines() == [f"{statement};" for statement in statements(rights("drain"), ROLE, DATABASE)]
    code, out, _ = command_line("grants", ROLE, "--table", "shop.copy", "--table", '"A b"')
    assert code == 0
    for table in ('"shop"."copy"', '"public"."A b"'):
        assert f'GRANT SELECT, INSERT ON {table} TO "{ROLE}";' in out.splitlines()
    assert "events" not in out
    code, _, err = command_line("grants", ROLE, "--for", "dance")
    assert code == 1
    assert "expected one of: drain, backfill" in err


def test_several_commands_are_one_set_of_rights(command_line: RunSpillway, configure: Callable[..., Settings]) -> None:
    configure(database_url=f"postgresql://somebody@127.0.0.1:1/{DATABASE}")
    both = ["reconcile", "metrics"]
    code, out, _ = command_line("grants", ROLE, "--for", both[0], "--for", both[1])
    assert code == 0
    found = dict.fromkeys(right for command in both for right in rights(command))
    assert out.splitlines() == [f"{statement};" for statement in statements(found, ROLE, DATABASE)]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--stream", "a*"], "need --redis"),
        (["--redis", "--table", "events"], "--table is about the database"),
        (["--redis", "--for", "maintain"], "expected with --redis one of: drain, backfill"),
        (["--redis", "--stream", "a b"], "write ? for each"),
    ],
)
def test_what_does_not_fit_together_is_refused(command_line: RunSpillway, arguments: list[str], part: str) -> None:
    code, out, err = command_line("grants", ROLE, *arguments)
    assert code in (1, 2)
    assert (out, part in err) == ("", True)


@pytest.mark.skipif(REDIS_CLI is None, reason="there is no redis-cli on this machine")
def test_the_command_prints_what_redis_cli_understands(
    command_line: RunSpillway, redis_client: redis.Redis, configure: Callable[..., Settings], servers: Servers
) -> None:
    """It gives these rights and no others, whatever was given before, and leaves the password as it is."""
    set_user(redis_client, ["+@all", "~*", "&*"])
    url = servers.settings.redis.rpartition("/")[0]
    configure(trim_keep="7d", redis_url=f"{url}/3")
    odd = r"it's[a-c]?\*&~☃"
    code, line, _ = command_line("grants", USER, "--redis", "--for", "drain", "--for", "health", "-s", "a*", "-s", odd)
    assert code == 0
    done = subprocess.run([str(REDIS_CLI), "-u", url], input=line, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "OK"
    found = redis_client.acl_getuser(USER)
    assert found["passwords"]
    assert found["keys"] == ["~a*", f"~{odd}"]
    assert found["channels"] == ["&spillway"]
    assert {one.split()[0] for one in found["commands"]} >= {"+xtrim", "+select", "+scan"}
    assert "+cluster|slots" not in found["commands"]
    redis_client.acl_deluser(USER)
