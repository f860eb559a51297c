"""Whatever the role, the database and the environment set: what is stored is byte for byte what it is by default."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import redis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from flows.backfill import backfill
from flows.drain import drain
from flows.maintain import maintain
from flows.reconcile import reconcile
from flows.redrive import redrive
from infra.connections.clients import Clients
from infra.errors.exceptions import Transient
from infra.schema.migrate import apply_schema
from infra.settings import Settings
from tasks.ledger.plan import make_plan
from tasks.preflight.rights import NEEDS, rights, statements
from tests.support.oracle import crossref_rows, flat_rows, table_rows
from tests.support.servers import Servers
from tests.support.stream_entries import event
from tests.support.tables import empty_tables

pytestmark = pytest.mark.usefixtures("prefect_server")

ROLE, DATABASE = "zoë", "sessions"
REAL, FLAT = "crossref-Zoë", "Zoë"
_DECOYS = sql.SQL("""
    CREATE SCHEMA {s};
    CREATE TABLE {s}.events (LIKE public.events);
    CREATE TABLE {s}.streams (LIKE spillway.streams);
    CREATE TABLE {s}.spillway_stage (LIKE public.events);
    CREATE FUNCTION {s}.now() RETURNS text LANGUAGE sql AS $$SELECT 'x'$$;
    GRANT ALL ON SCHEMA {s} TO {r};
    GRANT ALL ON ALL TABLES IN SCHEMA {s} TO {r}""")
# Values as ALTER ROLE takes them.
SETTINGS: dict[str, list[str]] = {
    "client_encoding": ["LATIN1", "WIN1252", "SQL_ASCII", "UTF8"],
    "DateStyle": ["'German, DMY'", "'SQL, MDY'", "'Postgres, DMY'"],
    "IntervalStyle": ["postgres_verbose", "sql_standard", "iso_8601"],
    "TimeZone": ["'Asia/Kathmandu'", "'America/St_Johns'", "'Pacific/Apia'"],
    "search_path": ['"$user", public', "decoy, public, pg_catalog", "public, decoy", "''", "pg_temp, decoy"],
    "default_transaction_isolation": ["serializable", "'repeatable read'", "'read uncommitted'"],
    "default_transaction_deferrable": ["on"],
    "bytea_output": ["escape"],
    "extra_float_digits": ["-15", "0", "3"],
    "standard_conforming_strings": ["off"],
    "backslash_quote": ["off"],
    "array_nulls": ["off"],
    "quote_all_identifiers": ["on"],
    "transform_null_equals": ["on"],
    "xmlbinary": ["hex"],
    "exit_on_error": ["on"],
    "statement_timeout": ["'15min'"],
    "lock_timeout": ["'15min'"],
    "client_min_messages": ["debug1", "error"],
    "synchronous_commit": ["off"],
    "work_mem": ["'64kB'"],
    "plan_cache_mode": ["force_generic_plan"],
    "enable_hashjoin": ["off"],
    "enable_indexscan": ["off"],
    "plpgsql.extra_errors": ["'all'"],
    "plpgsql.variable_conflict": ["use_column", "error"],
    "lc_messages": ["'de_DE.UTF-8'"],
}
ENVIRONMENT = {
    "PGCLIENTENCODING": ["LATIN1", "SQL_ASCII"],
    "PGDATESTYLE": ["German, DMY"],
    "PGTZ": ["Asia/Kathmandu"],
    "PGOPTIONS": [
        "-c intervalstyle=sql_standard -c statement_timeout=900000",
        "-c search_path=decoy -c bytea_output=escape -c standard_conforming_strings=off",
        "-c client_encoding=LATIN1 -c datestyle=SQL,DMY -c default_transaction_isolation=serializable",
    ],
}
ON_ROLE, ON_DATABASE = "ROLE {role}", "DATABASE sessions"
PLACES = [ON_ROLE, ON_DATABASE, "ROLE {role} IN DATABASE sessions"]


@pytest.fixture(scope="module")
def owner(servers: Servers) -> Iterator[psycopg.Connection]:
    """The owner's session of a database of its own, with the decoys; opened before anything odd is set."""
    with psycopg.connect(servers.settings.database, autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS sessions WITH (FORCE)")
        admin.execute('DROP ROLE IF EXISTS "zoë"')
        admin.execute("CREATE DATABASE sessions TEMPLATE template0 ENCODING 'UTF8'")
        admin.execute("CREATE ROLE \"zoë\" LOGIN PASSWORD 'least'")
        url = make_conninfo(servers.settings.database, dbname=DATABASE)
        apply_schema(url)
        with psycopg.connect(url, autocommit=True, client_encoding="UTF8") as connection:
            for command in NEEDS:
                needed = [right for right in rights(command) if right.kind != "OWNER"]
                for statement in statements(needed, ROLE, DATABASE):
                    connection.execute(statement.encode())
            connection.execute("ALTER TABLE public.events ADD CONSTRAINT not_marked CHECK (event_type <> 'markë')")
            for schema in ("decoy", ROLE):  # a role of this name has the second one first in its search_path
                connection.execute(_DECOYS.format(s=sql.Identifier(schema), r=sql.Identifier(ROLE)))
            yield connection
        admin.execute("DROP DATABASE sessions WITH (FORCE)")
        admin.execute('DROP ROLE "zoë"')


@pytest.fixture
def as_zoe(owner: psycopg.Connection, servers: Servers, configure: Callable[..., Settings]) -> Settings:
    found = conninfo_to_dict(servers.settings.database)
    url = f"postgresql://{quote(ROLE)}:least@{found['host']}:{found['port']}/{DATABASE}"
    return configure(database_url=url, retries=0)


@contextmanager
def altered(owner: psycopg.Connection, chosen: Mapping[str, tuple[str, str]]) -> Iterator[None]:
    """Each setting with its value, in one of the places."""
    role = sql.Identifier(ROLE).as_string(owner)
    try:
        for name, (value, place) in chosen.items():
            try:
                owner.execute(f"ALTER {place.format(role=role)} SET {name} = {value}".encode())
            except psycopg.errors.InvalidParameterValue:
                assert name == "lc_messages"  # the server's machine has no German
        yield
    finally:
        for place in PLACES:
            owner.execute(f"ALTER {place.format(role=role)} RESET ALL".encode())


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        yield


def real_lines(sample: Path) -> list[bytes]:
    """Real events of one month, each with `Zoë` in all places; the first five twice."""
    lines = [line for line in sample.read_bytes().splitlines() if json.loads(line)["occurred_at"][:7] == "2019-02"]
    spelled = [
        json.dumps(
            json.loads(line) | {"source_id": "Zoë €", "subj_id": "https://zoë.example/ß", "Zoë": ["Zoë\\", "𝒵"]},
            ensure_ascii=False,
        )
        for line in lines
    ]
    return [line.encode() for line in (*spelled, *spelled[:5])]


def flat_entries() -> tuple[list[dict[bytes, bytes]], list[dict[bytes, bytes]]]:
    """Good entries, and those that go to quarantine: unreadable, in conflict, rejected by a type, by a constraint."""
    good = [
        event(
            n,
            event_type="Zoë",
            user_id=f"Zoë\\'{n}",
            properties=json.dumps({"Zoë": 0.1 + n, "n": None}, ensure_ascii=False),
        )
        for n in range(20)
    ]
    bad = [
        event(90, time="Zoë"),
        event(3, user_id="another Zoë"),
        event(91, properties='{"Zoë": "\\u0000"}'),
        event(92, event_type="markë"),
        event(93, event_type="Zoë") | {b"time": b"n\xe9"},
    ]
    return good, bad


def run_all(owner: psycopg.Connection, client: redis.Redis, lines: list[bytes], folder: Path) -> str:
    """Drain, replay one entry, load a file, reconcile; a digest of every byte that is stored then."""
    client.flushdb()
    empty_tables(owner)
    good, bad = flat_entries()
    for number, line in enumerate(lines, 1):
        client.xadd(REAL, {b"data": line}, id=f"{number}-0")
    for number, entry in enumerate([*good, *bad], 1):
        client.xadd(FLAT, entry, id=f"{number}-0")  # type: ignore[arg-type]
    first = drain([REAL, FLAT])
    read, fresh = len(lines) + 25, len(crossref_rows(lines))
    counts = [first[name] for name in ("read", "inserted", "duplicates", "quarantined", "lag")]
    assert counts == [read, fresh + 20, len(lines) - fresh, 5, 0]
    assert redrive(FLAT, entries=["21-0"], set={"time": "2026-11-20T10:30:00Z", "user_id": "Zoë"})["inserted"] == 1
    file = folder / "crossref-Zoë.ndjson"
    file.write_bytes(b"\n".join([*lines[:10], lines[10].replace("€".encode(), "£".encode())]) + b"\n")
    loaded = backfill(str(file))
    assert (loaded["inserted"], loaded["duplicates"], loaded["quarantined"]) == (0, 10, 1)
    checked = reconcile([REAL, FLAT], deep=True)
    assert (checked["balanced"], checked["compared"]) == (True, read)
    maintain(dry_run=True)
    for schema in ("decoy", ROLE):
        for table in ("events", "streams", "spillway_stage"):
            name = sql.Identifier(schema, table)
            assert owner.execute(sql.SQL("SELECT count(*) FROM {}").format(name)).fetchone() == (0,)
    return stored(owner)


# The words of a server that rejects a row may be German; their SQLSTATE is not.
_STORED = (
    "SELECT * FROM public.events ORDER BY event_id, time",
    "SELECT name, baseline, lost, settled_id, settled_entries_added, settled_hash FROM spillway.streams ORDER BY name",
    """SELECT name, ids, ranges, l.read, l.inserted, duplicates, quarantined, bytes, min_time, max_time, l.lost
         FROM spillway.ledger AS l JOIN spillway.streams AS s ON s.id = l.stream ORDER BY name, ids""",
    r"""SELECT name, entry_id, fields, field, kind, outcome, replayed, regexp_replace(reason, '^.*(\[\w{5}\])$', '\1')
         FROM spillway.quarantine AS q JOIN spillway.streams AS s ON s.id = q.stream ORDER BY name, entry_id""",
    "SELECT name, path, mapping, reading, rows FROM spillway.files JOIN spillway.streams ON id = stream ORDER BY name",
)


def stored(owner: psycopg.Connection) -> str:
    digest = hashlib.sha256()
    for query in _STORED:
        with owner.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)".encode()) as copy:
            for data in copy:
                digest.update(data)
    return digest.hexdigest()


CHOSEN = st.fixed_dictionaries(
    {},
    optional={name: st.tuples(st.sampled_from(values), st.sampled_from(PLACES)) for name, values in SETTINGS.items()},
)
AROUND = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in ENVIRONMENT.items()})


def test_what_is_stored_is_the_same_under_any_settings(
    owner: psycopg.Connection, as_zoe: Settings, redis_client: redis.Redis, sample: Path, tmp_path: Path
) -> None:
    lines = real_lines(sample)
    expected = run_all(owner, redis_client, lines, tmp_path)
    replayed = event(90, user_id="Zoë", time="2026-11-20T10:30:00Z")
    assert table_rows(owner) == crossref_rows(lines) | flat_rows([*flat_entries()[0], replayed])

    # Without the search for a smaller example: a failure may take a minute of retries.
    @settings(
        max_examples=10,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        phases=[Phase.explicit, Phase.generate],
    )
    @given(chosen=CHOSEN, around=AROUND)
    def check(chosen: dict[str, tuple[str, str]], around: dict[str, str]) -> None:
        with altered(owner, chosen), environment(around):
            assert run_all(owner, redis_client, lines, tmp_path) == expected

    check()


@pytest.mark.parametrize("place", [ON_ROLE, ON_DATABASE])
def test_a_session_that_may_only_read_is_a_clear_error_and_nothing_is_written(
    place: str, owner: psycopg.Connection, as_zoe: Settings, redis_client: redis.Redis
) -> None:
    """Managed servers set that when their disk is full, and mean it: so it is not overridden."""
    empty_tables(owner)
    redis_client.xadd(FLAT, event(1))
    chosen = {"default_transaction_read_only": ("on", place)}
    refused = pytest.raises(Transient, match=r"read-only.*wait for the primary")
    with (
        Clients(as_zoe) as clients,
        altered(owner, chosen),
        refused,
        clients.translate_errors("plan"),
        clients.postgres() as connection,
    ):
        make_plan(clients.redis, connection, FLAT)
    assert owner.execute("SELECT count(*) FROM spillway.streams").fetchone() == (0,)


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_holds_for_others(name: str, owner: psycopg.Connection, as_zoe: Settings) -> None:
    """Otherwise the test above would say nothing: a plain session of the role has the setting."""
    shown = sql.SQL("SHOW {}").format(sql.SQL(name))

    def ask() -> object:
        with psycopg.connect(as_zoe.database) as connection:
            connection.execute("DO $$ BEGIN END $$")  # its settings are known from now on
            return connection.execute(shown).fetchone()

    default, seen = ask(), set()
    for value in SETTINGS[name]:
        with altered(owner, {name: (value, ON_ROLE)}):
            seen.add(ask())
    assert seen - {default} or name == "lc_messages"
