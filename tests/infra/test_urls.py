"""URLs are read in one place, and no output contains a part of an invalid one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from infra.connections.clients import Clients
from infra.errors.exceptions import SpillwayError, Terminal, WrongUse
from infra.locations import open_location, without_credentials
from infra.settings import Settings, host_of, settings
from infra.urls import UnreadableUrl, read_database_url, read_redis_url
from tests.support.programs import BIN

# Letters that stand in no message of ours, so that any four of them in an output come from the secret.
_SECRET = st.text("JKQXZ789", min_size=6, max_size=14)
_BREAKS = st.text("@#?/:%[]\\ &=+;,'\"{}^|", min_size=1, max_size=4)


@st.composite
def passwords(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A password of recognizable pieces with special characters in between, not encoded; and the pieces."""
    pieces = draw(st.lists(_SECRET, min_size=1, max_size=3))
    password = pieces[0]
    for piece in pieces[1:]:
        password += draw(_BREAKS) + piece
    return draw(st.sampled_from(["", draw(_BREAKS)])) + password + draw(st.sampled_from(["", draw(_BREAKS)])), pieces


def leaks(text: str, pieces: list[str]) -> Iterator[str]:
    for piece in pieces:
        for at in range(len(piece) - 3):
            if piece[at : at + 4] in text:
                yield piece[at : at + 4]


def reading(read: Callable[[str], object], url: str) -> str | None:
    """Why a URL is invalid; None if it is valid."""
    try:
        read(url)
    except UnreadableUrl as error:
        return str(error)
    return None


@hypothesis_settings(max_examples=1_500, suppress_health_check=list(HealthCheck))
@given(
    passwords(),
    st.sampled_from(["redis", "rediss", "unix", "postgresql", "postgres", "http", "redi", ""]),
    st.sampled_from(
        ["127.0.0.1:1/0", "127.0.0.1:1", "h.invalid:1/0", "[::1]:1/0", "h:port/0", "/run/none.sock?db=0", ""]
    ),
    st.sampled_from(["u:", ":", "", "u"]),
)
@example(("7XQK/JJZZ", ["7XQK", "JJZZ"]), "postgresql", "127.0.0.1:1/d", "u:")
@example(("7XQKQ?ssl_ca_certs=JJZZ", ["7XQKQ", "JJZZ"]), "rediss", "127.0.0.1:1/0", ":")
def test_no_message_contains_four_letters_of_a_malformed_url(
    password: tuple[str, list[str]], scheme: str, rest: str, user: str
) -> None:
    """A valid one has its password in the right place, and only its host is shown."""
    written, pieces = password
    url = f"{scheme}://{user}{written}@{rest}"
    for name, read in (("redis_url", read_redis_url), ("database_url", read_database_url)):
        said = reading(read, url)
        if said is not None:
            assert not list(leaks(said, pieces))
            with pytest.raises((ValueError, WrongUse), match=f"(?i){name}") as refused:
                _ = Settings(**{name: url}, _env_file=None).redis  # type: ignore[arg-type]
            assert not list(leaks(str(refused.value) + repr(refused.value), pieces))
        else:
            assert not list(leaks(host_of(url), pieces)), url
            if user.endswith(":") and "127.0.0.1" in rest and name == "redis_url":
                with pytest.raises(SpillwayError) as away:
                    _ping(Settings(redis_url=url, connect_timeout=1, redis_timeout=1, _env_file=None))
                assert not list(leaks(str(away.value), pieces))


def _ping(config: Settings) -> None:
    with Clients(config) as clients, clients.translate_errors("look"):
        clients.redis.ping()


@given(
    passwords(), st.sampled_from(["s3", "gs", "http"]), st.sampled_from(["b/path", "b", "b/a?x=y", "h:1/x*.csv", ""])
)
@example(("7XQK/JJZZ", ["7XQK", "JJZZ"]), "s3", "bucket/path")
def test_the_displayed_url_of_files_contains_no_four_letters_of_a_key(
    password: tuple[str, list[str]], scheme: str, rest: str
) -> None:
    written, pieces = password
    assert not list(leaks(without_credentials(f"{scheme}://KEY:{written}@{rest}"), pieces))


@pytest.mark.parametrize("between", ["/", " ", "?", "@", "#", "[", "%zz"])
@pytest.mark.parametrize("scheme", ["s3", "gs", "nothing", "memory", "http", "ftp"])
def test_no_error_of_a_file_system_contains_a_piece_of_a_key(scheme: str, between: str) -> None:
    try:
        shown = open_location(f"{scheme}://KEY:7XQK{between}JJZZ@127.0.0.1:1/path", "archive", "change it").display_name
    except SpillwayError as error:
        shown = str(error)
    assert not list(leaks(shown, ["7XQK", "JJZZ"])), shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/a@b.csv", "s3://bucket/a@b.csv"),
        ("http://127.0.0.1:8080/x.csv?sig=word", "http://127.0.0.1:8080/x.csv"),
        ("s3://KEY:word@bucket/path", "s3://bucket/path"),
        ("s3://KEY:word", "s3://…"),
    ],
)
def test_the_other_parts_of_the_url_of_files_are_displayed(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


_COMMANDS = [
    ["up"], ["status"], ["schema"], ["psql", "-c", "SELECT 1"], ["redis-cli", "ping"], ["down"], ["reset", "--yes"],
    ["drain", "--stream", "s"], ["reconcile", "--stream", "s"], ["maintain"], ["archive", "list"],
    ["archive", "verify"],
    ["backfill", "/no/such.ndjson"], ["backfill", "--stream", "s"], ["quarantine", "list"],
    ["quarantine", "show", "1-1"],
    ["quarantine", "redrive"], ["quarantine", "discard", "--all"], ["stream", "accept-rewind", "s"],
    ["generate", "--events", "1", "--stream", "s"], ["produce", "/dev/null", "--stream", "s"], ["serve"],
]  # fmt: skip


# What these do needs no Redis: see tests/flows/test_without_redis.py.
_WITHOUT_REDIS = [
    ["down"], ["reset", "--yes"], ["schema"], ["psql", "-c", "SELECT 1"], ["maintain"],
    ["archive", "list"], ["archive", "verify"],
    ["backfill", "/no/such.ndjson"], ["quarantine", "list"], ["quarantine", "show", "1-1"], ["quarantine", "redrive"],
    ["quarantine", "discard", "--all"], ["stream", "accept-rewind", "s"],
]  # fmt: skip


@pytest.mark.parametrize("command", _COMMANDS, ids=" ".join)
def test_no_command_shows_a_piece_of_an_invalid_url(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from flows.cli import main

    secret = ["QXZJ77", "KQ8XZ9"]
    for name, url in (
        ("SPILLWAY_REDIS_URL", "redis://ann:QXZJ77/KQ8XZ9@127.0.0.1:1/0"),
        ("SPILLWAY_REDIS_URL", "rediss://ann:QXZJ77#KQ8XZ9@127.0.0.1:1/0?a=b"),
        ("SPILLWAY_DATABASE_URL", "postgresql://ann:QXZJ77@KQ8XZ9@127.0.0.1:1/d"),
        ("SPILLWAY_DATABASE_URL", "postgresql://ann:QXZJ77/KQ8XZ9@127.0.0.1:1/d"),
    ):
        if "REDIS" in name and command in _WITHOUT_REDIS:
            continue
        monkeypatch.setenv(name, url)
        settings.cache_clear()
        monkeypatch.setattr("sys.argv", ["spillway", *command])
        # A flow's module reads the settings when it is imported, which another test may have done before.
        with pytest.raises((SystemExit, Terminal)) as ended:
            main.main()
        said = capfd.readouterr()
        text = said.out + said.err + str(ended.value)
        assert not list(leaks(text, secret)), text
        assert f"{name}: expected" in text, text
        monkeypatch.delenv(name)
    settings.cache_clear()


def test_a_traceback_contains_no_part_of_it_either() -> None:
    environment = os.environ | {"SPILLWAY_REDIS_URL": "redis://ann:QXZJ77/KQ8XZ9@h/0", "SPILLWAY_DEBUG": "1"}
    done = subprocess.run([BIN / "spillway", "status"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert "Traceback" in done.stderr
    assert not list(leaks(done.stdout + done.stderr, ["QXZJ77", "KQ8XZ9"]))


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("redis://h", "h:6379"), ("redis://:p@ss@h:1/2", "h:1"), ("redis://[::1]:7/3", "[::1]:7"),
        ("redis://u:p%2Fw%23@h/0", "h:6379"), ("unix://u:p@/run/r.sock?db=1", "/run/r.sock"),
        ("rediss://h?ssl_cert_reqs=none&ssl_ca_certs=/a/b.pem", "h:6379"), ("redis://h/0?socket_timeout=3", "h:6379"),
        ("redis+sentinel://u:p%40@h,[::1]:5/my%20service/2", "h:26379,[::1]:5/my service"),
        ("rediss+sentinel://h:1/s?sentinel_password=p&ssl_ca_certs=/a.pem", "h:1/s"),
    ],
)  # fmt: skip
def test_a_valid_redis_url_is_displayed_as_host_and_port(url: str, where: str) -> None:
    assert read_redis_url(url).where == where


def test_the_url_of_sentinels_has_the_options_of_both_servers() -> None:
    found = read_redis_url(
        "rediss+sentinel://u:p%2F@a,b:7/main/3?sentinel_username=s&sentinel_password=%40&ssl_keyfile=/k"
    )
    assert (found.sentinels, found.service) == ((("a", 26379), ("b", 7)), "main")
    assert found.options == {"username": "u", "password": "p/", "db": 3, "ssl_keyfile": "/k"}
    assert found.sentinel_options == {"username": "s", "password": "@"}
    assert (found.tls, found.socket) == (True, False)
    assert found.redis_cli(("primary", 8))[0][:4] == ["-h", "primary", "-p", "8"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h?colour=red", "expected only the parameters db"),
        ("redis://h?ssl_cert_reqs=none", "with rediss://"),
        ("rediss://h?ssl_cert_reqs=perhaps", "expected ssl_cert_reqs to be one of none"),
        ("rediss://h?ssl_check_hostname=perhaps", "expected ssl_check_hostname"),
        ("redis://h?db=1&db=2", "expected each parameter once"),
        ("redis://h/x", "expected a URL like redis://"), ("redis://h?db=x", "expected a URL like redis://"),
        ("redis://h:port", "expected a URL like redis://"), ("http://h", "expected a URL like redis://"),
        ("redis+sentinel://h:26379", "redis+sentinel://user"), ("redis+sentinel://h,/s", "redis+sentinel://user"),
        ("redis+sentinel://h:1/s/x", "redis+sentinel://user"), ("redis+sentinel://h/s?colour=x", "only the parameters"),
        ("redis+sentinel://a@b/c@h/s", "redis+sentinel://user"), ("redis://h?sentinel_password=x", "only the param"),
        ("unix://run/r.sock", "expected a URL like redis://"), ("redis://a b/0", "expected a URL like redis://"),
    ],
)  # fmt: skip
def test_the_fault_of_a_redis_url_is_reported_without_the_url(url: str, said: str) -> None:
    with pytest.raises(UnreadableUrl) as refused:
        read_redis_url(url)
    assert said in str(refused.value)
