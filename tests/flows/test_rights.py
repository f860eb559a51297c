"""The smallest role for each command, found by experiment: a real second role, from which each right is taken away."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
import redis
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import tasks.preflight.preflight
from flows.backfill import backfill
from flows.drain import drain
from flows.maintain import maintain
from flows.reconcile import reconcile
from flows.redrive import redrive
from infra.connections.clients import postgres_connection
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.schema.migrate import apply_schema
from infra.settings import Settings
from tasks.preflight.rights import NEEDS, Privilege, check_rights, rights, statements
from tasks.streams import find
from tests.support.oracle import crossref_rows, flat_rows, ledger_is_whole, table_rows
from tests.support.results import drain_counts
from tests.support.servers import Servers
from tests.support.stream_entries import event
from tests.support.tables import empty_tables
from tests.support.triggers import trigger_sql

pytestmark = pytest.mark.usefixtures("prefect_server")

ROLE, DATABASE = "spillway_least", "rights"
# What everybody has by default, and what the schema gives to everybody: a role must get it by name.
_NOTHING_FOR_ALL = """
    REVOKE ALL ON DATABASE rights FROM PUBLIC; GRANT CONNECT ON DATABASE rights TO PUBLIC;
    REVOKE ALL ON SCHEMA public FROM PUBLIC; REVOKE ALL ON spillway.instance FROM PUBLIC"""
# Rows that the table rejects, and a trigger that may change rows: the way through all temporary tables.
_NOT_MARKED = "ALTER TABLE public.events ADD CONSTRAINT not_marked CHECK (event_type <> 'marked.marked');"
_USER_TABLE = _NOT_MARKED + trigger_sql("RETURN NEW;", schema="public")
_PLAIN_TABLE = """
    ALTER TABLE public.events DROP CONSTRAINT IF EXISTS not_marked;
    DROP TRIGGER IF EXISTS on_events ON public.events; DROP FUNCTION IF EXISTS public.on_events"""


@pytest.fixture(scope="module")
def owner_url(servers: Servers) -> Iterator[str]:
    """The owner's URL of a database in which no other role has any right."""
    url = make_conninfo(servers.settings.database, dbname=DATABASE)
    with psycopg.connect(servers.settings.database, autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS rights WITH (FORCE)")
        admin.execute("CREATE DATABASE rights TEMPLATE template0")
        apply_schema(url)
        admin.execute("DROP ROLE IF EXISTS spillway_least")
        admin.execute("CREATE ROLE spillway_least LOGIN PASSWORD 'least'")
        yield url
        admin.execute("DROP DATABASE rights WITH (FORCE)")
        admin.execute("DROP ROLE spillway_least")


@pytest.fixture
def owner(owner_url: str) -> Iterator[psycopg.Connection]:
    """The owner's session; empty tables, and a role without any right."""
    with psycopg.connect(owner_url, autocommit=True) as connection:
        empty_tables(connection)
        connection.execute("DROP OWNED BY spillway_least")
        connection.execute(_NOTHING_FOR_ALL)
        yield connection
        connection.execute(_PLAIN_TABLE)


@pytest.fixture
def as_least(
    owner: psycopg.Connection, servers: Servers, configure: Callable[..., Settings]
) -> Callable[..., Settings]:
    """Set settings, with the URL of the role."""
    found = conninfo_to_dict(servers.settings.database)
    url = f"postgresql://{ROLE}:least@{found['host']}:{found['port']}/{DATABASE}"
    return lambda **values: configure(database_url=url, retries=0, **values)


def grant(
    owner: psycopg.Connection, command: str, without: Privilege | None = None, tables: list[str] | None = None
) -> None:
    """Give the role what `command` needs, as `spillway grants` prints it, but for one right. It owns nothing."""
    granted = [right for right in rights(command, tables) if right != without and right.kind != "OWNER"]
    for statement in statements(granted, ROLE, DATABASE):
        owner.execute(statement.encode())


def of(command: str) -> list[pytest.param]:
    """Each right of a command, with a name for the test."""
    return [
        pytest.param(command, right, id=f"{command}, {right.privilege or right.kind} {right.name or right.schema}")
        for right in rights(command)
    ]


def send_all(client: redis.Redis, stream: str, lines: list[bytes]) -> None:
    """Real events, some of them twice; one in conflict, one that cannot be read, and one that the table rejects."""
    send(client, stream, ({b"data": line} for line in lines))
    first = json.loads(lines[0])
    odd: list[dict[str, str]] = [
        {"subj_id": "another"},
        {"id": str(UUID(int=1)), "occurred_at": "soon"},
        {"id": str(UUID(int=2)), "source_id": "marked", "relation_type_id": "marked"},
    ]
    send(client, stream, ({b"data": json.dumps(first | changes).encode()} for changes in odd))


def test_a_role_with_no_other_right_drains_duplicates_bad_entries_and_trims(
    owner: psycopg.Connection, as_least: Callable[..., Settings], sample: Path, redis_client: redis.Redis,
    servers: Servers,
) -> None:  # fmt: skip
    lines = [line for line in sample.read_bytes().splitlines() if json.loads(line)["occurred_at"][:6] == "2019-0"]
    expected = crossref_rows(lines)
    repeated = len(lines) - len(expected)
    owner.execute(_USER_TABLE)
    as_least(trim_keep="0s")
    grant(owner, "drain")
    send_all(redis_client, "crossref-least", lines)
    first = drain("crossref-least")
    assert drain_counts(first) == (len(lines) + 3, len(expected), repeated, 3, 0)
    assert repeated
    assert table_rows(owner) == expected
    kinds = "SELECT kind, count(*) FROM spillway.quarantine GROUP BY kind ORDER BY kind"
    assert owner.execute(kinds).fetchall() == [("conflict", 1), ("refused", 2)]
    if servers.edition == "Community":  # late rows go into compressed chunks
        owner.execute("ALTER TABLE public.events SET (timescaledb.compress, timescaledb.compress_orderby = 'time')")
        owner.execute("SELECT compress_chunk(c) FROM show_chunks('public.events') AS c")
    send(redis_client, "crossref-least", ({b"data": line} for line in lines))
    second = drain("crossref-least")
    assert (second["read"], second["inserted"], second["quarantined"]) == (len(lines), 0, 0)
    assert table_rows(owner) == expected
    assert ledger_is_whole(owner, "crossref-least")
    assert redis_client.xlen("crossref-least") < 200  # trimmed by whole nodes


def test_a_role_with_no_other_right_merges_the_old_rows_of_the_ledger(
    owner: psycopg.Connection, as_least: Callable[..., Settings], redis_client: redis.Redis
) -> None:
    as_least(batch_rows=1)
    grant(owner, "drain")
    send(redis_client, "least", [event(n) for n in range(102)])
    drain("least")
    owner.execute("UPDATE spillway.ledger SET loaded_at = loaded_at - interval '2 days'")
    send(redis_client, "least", [event(102)])
    drain("least")
    assert owner.execute("SELECT ranges FROM spillway.ledger ORDER BY ids").fetchall() == [(102,), (1,)]


@pytest.mark.parametrize(("command", "right"), of("drain"))
def test_no_right_of_a_drain_can_be_left_out_and_preflight_names_it(
    command: str,
    right: Privilege,
    owner: psycopg.Connection,
    as_least: Callable[..., Settings],
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    as_least(trim_keep="0s")
    monkeypatch.setattr(find, "_MANY_SCANS", 0)  # the names of a pattern are kept
    grant(owner, command, without=right)
    entries = [event(n) for n in range(5)]
    send(redis_client, "least", [*entries, event(0, user_id="another"), event(9, time="soon")])
    with pytest.raises(Terminal) as refused:
        drain("least")
    assert owner.execute("SELECT count(*) FROM spillway.streams").fetchone() == (0,)
    advice = re.search(r"as the owner of the tables run: (.*); then try again$", str(refused.value))
    assert advice is not None, str(refused.value)
    assert advice[1].split("; ") == statements([right], ROLE, DATABASE)
    # It is really needed: without the check the server refuses somewhere on the way.
    with monkeypatch.context() as unchecked:
        unchecked.setattr(tasks.preflight.preflight, "check_rights", lambda *_: None)
        with pytest.raises(Terminal, match="permission denied"):
            drain("least*")
    owner.execute(advice[1].encode())  # as it was advised
    drain("least*")
    assert table_rows(owner) == flat_rows(entries)


def test_every_missing_right_is_named_at_once(
    owner: psycopg.Connection, as_least: Callable[..., Settings], redis_client: redis.Redis
) -> None:
    as_least()
    send(redis_client, "least", [event(1)])
    with pytest.raises(Terminal) as refused:
        drain("least")
    found = str(refused.value)
    assert f"run: {'; '.join(statements(rights('drain'), ROLE, DATABASE))}; then try again" in found
    assert "GRANT SELECT, INSERT, UPDATE, DELETE ON" in found
    assert f"the role {ROLE} lacks rights" in found


@pytest.mark.parametrize(("command", "right"), [case for name in NEEDS if name != "drain" for case in of(name)])
def test_a_right_that_another_command_lacks_is_named(
    command: str, right: Privilege, owner: psycopg.Connection, as_least: Callable[..., Settings]
) -> None:
    config = as_least()
    grant(owner, command, without=right)
    with closing(postgres_connection(config)) as connection, pytest.raises(Terminal) as refused:
        check_rights(connection, command)
    missing = [right] if right.kind != "OWNER" else []
    missing += [Privilege("OWNER", privilege=owner.info.user)] if NEEDS[command].owner else []
    assert f"run: {'; '.join(statements(missing, ROLE, DATABASE))}; then try again" in str(refused.value)


def test_with_what_it_needs_each_other_command_does_its_work(
    owner: psycopg.Connection, as_least: Callable[..., Settings], redis_client: redis.Redis, tmp_path: Path
) -> None:
    """Each with its own rights and no other."""

    def only(command: str) -> None:
        owner.execute("DROP OWNED BY spillway_least")
        with pytest.raises(Terminal, match=re.escape(f"lacks rights that `spillway {command}` needs")):
            run[command]()
        grant(owner, command)

    entries = [event(n) for n in range(20)]
    file = tmp_path / "more.csv"
    file.write_text("time,event_id,event_type,user_id\n" + "2026-01-02T00:00:00Z,%s,a,b\n" % ("1" * 32))
    run = {
        "backfill": lambda: backfill(str(file)),
        "quarantine redrive": lambda: redrive("least", set={"time": "2026-01-03T00:00:00Z"}),
        "reconcile": lambda: reconcile("least"),
        "reconcile --deep": lambda: reconcile("least", deep=True, fail=False),
        "reconcile --deep --repair": lambda: reconcile("least", deep=True, repair=True),
    }
    as_least(compress_after="")
    grant(owner, "drain")
    send(redis_client, "least", [*entries, event(99, time="soon")])
    assert drain("least")["quarantined"] == 1
    only("backfill")
    assert run["backfill"]()["inserted"] == 1
    only("quarantine redrive")
    assert run["quarantine redrive"]()["inserted"] == 1
    only("reconcile")
    assert run["reconcile"]()["balanced"]
    owner.execute("DELETE FROM public.events WHERE event_id = %s", [entries[0][b"event_id"].decode()])
    only("reconcile --deep")
    assert [finding["what"] for finding in run["reconcile --deep"]()["findings"]] == ["missing"]
    only("reconcile --deep --repair")
    assert run["reconcile --deep --repair"]()["repaired"] == 1
    assert len(table_rows(owner)) == 22


def test_a_role_needs_rights_on_the_tables_of_its_streams_and_on_no_others(
    owner: psycopg.Connection, as_least: Callable[..., Settings], redis_client: redis.Redis, tmp_path: Path
) -> None:
    """Also for a redrive and a comparison, and in a schema of the user's own."""
    owner.execute("DROP SCHEMA IF EXISTS shop CASCADE; CREATE SCHEMA shop; CREATE TABLE shop.copy (LIKE public.events)")
    mappings = tmp_path / "spillway.toml"
    mappings.write_text('[streams.least]\ntable = "shop.copy"\n')
    as_least(mappings=mappings)
    send(redis_client, "least", [event(1), event(2, time="soon")])
    runs = {
        "drain": lambda: drain("least"),
        "quarantine redrive": lambda: redrive("least", set={"time": "2026-01-03T00:00:00Z"}),
        "reconcile --deep": lambda: reconcile("least", deep=True),
    }
    for command, run in runs.items():
        owner.execute("DROP OWNED BY spillway_least")
        grant(owner, command, tables=[])
        with pytest.raises(Terminal, match=r'GRANT USAGE ON SCHEMA "shop" .* ON "shop"."copy" TO') as refused:
            run()
        assert "events" not in str(refused.value)
        grant(owner, command, tables=["shop.copy"])
        run()
    assert owner.execute("SELECT count(*) FROM shop.copy").fetchone() == (2,)
    owner.execute("DROP SCHEMA shop CASCADE")


@pytest.mark.hypertables
@pytest.mark.usefixtures("hypertables")
def test_maintain_needs_the_owner_of_the_table(
    owner: psycopg.Connection, as_least: Callable[..., Settings], redis_client: redis.Redis
) -> None:
    as_least(compress_after="", keep="7d")
    grant(owner, "drain")
    grant(owner, "maintain")
    role = sql.Identifier(owner.info.user)
    send(redis_client, "least", [event(n, time="2026-01-01T00:00:00Z") for n in range(20)])
    drain("least")
    with pytest.raises(Terminal, match=r"maintain.* needs; nothing was read or written; .* run: GRANT"):
        maintain()
    owner.execute(sql.SQL("GRANT {} TO spillway_least").format(role))
    try:
        maintain()
    finally:
        owner.execute(sql.SQL("REVOKE {} FROM spillway_least").format(role))
    assert owner.execute("SELECT sum(rows) FROM spillway.drops").fetchone() == (20,)
    assert table_rows(owner) == {}
