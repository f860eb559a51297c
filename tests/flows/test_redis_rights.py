"""The smallest user of Redis for each command, found by experiment: a real user, from whom each right is taken away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import redis

from flows.cli.status_look import look
from flows.metrics_server import metrics_text
from flows.plain.backfill import backfill
from flows.plain.drain import drain
from flows.plain.reconcile import reconcile
from flows.plain.redrive import redrive
from infra.connections.clients import Clients
from infra.connections.group_name import group_name
from infra.errors.exceptions import SpillwayError
from infra.producers.send import send
from infra.settings import Settings, settings
from tasks.preflight import stream_sample
from tasks.preflight.health import readiness_faults
from tasks.preflight.redis_rights import redis_rights
from tasks.reconcile.recover import recover_stream
from tests.support.oracle import flat_rows, ledger_is_whole, table_rows
from tests.support.redis_user import USER, denied, set_user, url_of_user
from tests.support.servers import Servers
from tests.support.stream_entries import event

STREAMS, PATTERN = ["acl-garbage", "acl-large", "acl-new", "acl-old"], "acl-*"
GOOD = [event(n) for n in range(40)]
# Larger than a subscriber may get in these tests, so Redis measures them first.
LARGE = [event(n, properties=json.dumps({"text": "x" * 1_500_000})) for n in (100, 101)]
# Without these the work is done as well: replies have no bound.
BOUND = frozenset({"subscribe", "unsubscribe", "eval_ro"})

Configure = Callable[..., Settings]
AsUser = Callable[[Sequence[str]], Settings]


@pytest.fixture
def filled(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> Iterator[redis.Redis]:
    """A Redis that sends a subscriber no more than 1 MB. It has a stream that is drained up to its last entries, where
    somebody else has unacknowledged entries; a new stream; and one with entries that are too large for a reply."""
    configure(trim_keep="0s", scheduled_streams=PATTERN, max_bad_share=1)
    send(redis_client, "acl-old", [*GOOD[:20], event(20, time="soon")])
    redis_client.xgroup_create("acl-old", "other", "0")
    redis_client.xreadgroup("other", "me", {"acl-old": ">"}, count=3)
    drain("acl-old")
    # The group in which the first release published its progress: a drain removes it.
    (mine,) = (one for one in redis_client.xinfo_groups("acl-old") if one["name"] == group_name(database).encode())
    redis_client.xgroup_create("acl-old", "spillway", mine["last-delivered-id"])
    send(redis_client, "acl-old", GOOD[20:30])
    send(redis_client, "acl-new", [*GOOD[30:], event(1)])
    send(redis_client, "acl-large", LARGE)
    # So bad at first that its newest entries are looked at before anything is refused.
    monkeypatch.setattr(stream_sample, "_OLDEST", 5)
    send(redis_client, "acl-garbage", [*([{b"a": b"b"}] * 5), event(300)])
    limit = "client-output-buffer-limit"
    before = redis_client.config_get(limit)[limit]
    redis_client.config_set(limit, "pubsub 1mb 1mb 60")
    yield redis_client
    redis_client.config_set(limit, before)


@pytest.fixture
def as_user(redis_client: redis.Redis, servers: Servers, configure: Configure) -> Iterator[AsUser]:
    """Give the user these rules, and set its URL. Redis forgets what it has denied before."""

    def made(rules: Sequence[str]) -> Settings:
        set_user(redis_client, rules)
        return configure(redis_url=url_of_user(servers.settings.redis))

    yield made
    redis_client.execute_command("ACL", "DELUSER", USER)


def rules_of(command: str, patterns: Sequence[str] = (PATTERN,)) -> list[str]:
    return redis_rights([command], patterns, settings(), cluster=False)


def _recover() -> None:
    with Clients(settings(), "stream recover") as clients:
        for name in STREAMS:
            recover_stream(clients, name, None)


def _metrics() -> None:
    if faults := metrics_text(settings())[1]:
        raise SpillwayError("; ".join(faults.values()))


def _status() -> None:
    found = look()
    if not found.streams:
        raise SpillwayError("; ".join(found.problems))


def _health() -> None:
    if faults := readiness_faults(settings()):
        raise SpillwayError("; ".join(faults))


def _backfill() -> dict[str, Any]:
    found = [backfill(stream=name, since="2020-01-01T00:00:00Z") for name in STREAMS]
    return {"warnings": [warning for one in found for warning in one["warnings"]]}


def _after_drain(configure: Configure) -> None:
    drain(PATTERN)


def _after_refusal(configure: Configure) -> None:
    """Entries that were too large to be read wait in the quarantine."""
    configure(max_entry_bytes=1_000_000)
    drain(PATTERN)
    configure(max_entry_bytes=2_000_000)


def _after_more(configure: Configure) -> None:
    """Every stream is known, and some have entries that are not drained."""
    drain(PATTERN)
    with redis.Redis.from_url(settings().redis) as client:
        send(client, "acl-new", [event(200)])


def _nothing_before(configure: Configure) -> None:
    pass


@dataclass(frozen=True)
class Case:
    """A command, and what happens `before` it with all rights.

    Without the rights of `warned` it does its work, and a warning names them; without those of `unnoticed`, nothing
    does. Those of `rare` are needed only after a loss, or while the database is away.
    """

    before: Callable[[Configure], None]
    run: Callable[[], Any]
    unnoticed: frozenset[str] = BOUND | {"info"}
    warned: frozenset[str] = frozenset()
    rare: frozenset[str] = frozenset()


PUBLISHED = {"xgroup|create", "xgroup|setid", "xgroup|destroy", "xinfo|groups"}
CASES = {
    "drain": Case(_nothing_before, lambda: drain(PATTERN), BOUND, PUBLISHED | {"xtrim", "xpending", "time"}),
    "backfill": Case(_nothing_before, _backfill, BOUND | {"time", "xgroup|create"}),
    "quarantine redrive": Case(_after_refusal, lambda: redrive("acl-large", dry_run=True)),
    "reconcile": Case(_after_drain, lambda: reconcile(PATTERN)),
    "reconcile --deep": Case(_after_drain, lambda: reconcile(PATTERN, deep=True)),
    "stream recover": Case(_after_drain, _recover, rare=frozenset({"ping"})),
    "metrics": Case(
        _after_more, _metrics, frozenset({"subscribe", "unsubscribe", "info", "xrange"}), rare=frozenset({"ping"})
    ),
    "status": Case(_after_more, _status),
    "health": Case(_nothing_before, _health),
}


def prepare(command: str, configure: Configure) -> None:
    if command != "drain":  # a drain trims
        configure(trim_keep="")
    CASES[command].before(configure)


def check_without(right: str, command: str, filled: redis.Redis, as_user: AsUser) -> None:
    """Run the command without one of its rights. It is denied nothing else, and says so unless it can do without."""
    as_user([rule for rule in rules_of(command) if rule != f"+{right}"])
    case = CASES[command]
    if right in case.unnoticed | case.warned | case.rare:
        found = case.run()
        if right in case.warned:
            assert f"'{right}'" in "; ".join(found["warnings"]), found["warnings"]
    else:
        with pytest.raises(SpillwayError, match="`spillway grants USER --redis` prints the ACL") as refused:
            case.run()
        assert f"'{right}'" in str(refused.value)
    assert denied(filled) == ({right} if right not in case.rare else set())


def single_rights(command: str) -> list[str]:
    config = Settings(trim_keep=timedelta(0) if command == "drain" else None, _env_file=None)
    rules = redis_rights([command], [PATTERN], config, cluster=False)
    return [rule.removeprefix("+") for rule in rules if rule.startswith("+")]


@pytest.mark.parametrize("command", CASES)
def test_a_user_with_no_other_right_is_denied_nothing(
    command: str, filled: redis.Redis, as_user: AsUser, configure: Configure, database: psycopg.Connection
) -> None:
    prepare(command, configure)
    as_user(rules_of(command))
    found = CASES[command].run()
    assert denied(filled) == set()
    if command in ("drain", "backfill"):
        assert table_rows(database) == flat_rows([*GOOD, *LARGE, event(300)])
    if command == "drain":
        assert all(ledger_is_whole(database, name) for name in STREAMS)
        assert [one for one in found["warnings"] if "less than a day" not in one] == []
        assert filled.xlen("acl-large") == 0, "it was trimmed"
        assert b"spillway" not in [group["name"] for group in filled.xinfo_groups("acl-old")]
    if command == "quarantine redrive":
        assert redrive("acl-large")["inserted"] == len(LARGE)
        assert denied(filled) == set()


@pytest.mark.parametrize(
    ("command", "right"), [(command, right) for command in ("drain", "backfill") for right in single_rights(command)]
)
def test_no_right_of_a_command_that_loads_can_be_left_out(
    command: str, right: str, filled: redis.Redis, as_user: AsUser, configure: Configure
) -> None:
    prepare(command, configure)
    check_without(right, command, filled, as_user)


@pytest.mark.parametrize("command", [command for command in CASES if command not in ("drain", "backfill", "status")])
def test_no_right_of_a_command_that_reads_can_be_left_out(
    command: str, filled: redis.Redis, as_user: AsUser, configure: Configure
) -> None:
    prepare(command, configure)
    for right in single_rights(command):
        check_without(right, command, filled, as_user)


def test_a_drain_that_does_not_trim_has_no_right_to_trim(
    filled: redis.Redis, as_user: AsUser, configure: Configure, database: psycopg.Connection
) -> None:
    configure(trim_keep="")
    rules = rules_of("drain")
    assert {"+xtrim", "+xpending"}.isdisjoint(rules)
    as_user(rules)
    assert drain(PATTERN)["warnings"] == []
    assert denied(filled) == set()
    assert table_rows(database) == flat_rows([*GOOD, *LARGE, event(300)])
    for command in (("XADD", "acl-new", "*", "a", "b"), ("DEL", "acl-new"), ("CONFIG", "GET", "*"), ("GET", "secret")):
        with redis.Redis.from_url(settings().redis) as client, pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)


def test_a_stream_outside_the_pattern_is_an_error_that_says_what_to_do(
    filled: redis.Redis, as_user: AsUser, database: psycopg.Connection
) -> None:
    send(filled, "other", [event(1)])
    as_user(rules_of("drain"))
    with pytest.raises(SpillwayError, match=r"permissions to access .*key.*`spillway grants USER --redis` prints"):
        drain("other")
