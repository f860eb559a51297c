"""A table's name is read as the server reads it. What cannot be loaded into is refused, with the next step."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from infra.errors.exceptions import Terminal
from infra.settings import Settings
from infra.tables.read_table import default_table_name, parse_table_name, read_table

NAMES = {
    "weather": ("public", "weather"),
    " Weather ": ("public", "weather"),
    "ÄRGER_2$": ("public", "Ärger_2$"),
    '"Weather"': ("public", "Weather"),
    "shop.weather": ("shop", "weather"),
    'Shop . "we.at""her" ': ("shop", 'we.at"her'),
    '"100%"."ä b"': ("100%", "ä b"),
}


@pytest.mark.parametrize(("name", "parts"), NAMES.items(), ids=NAMES)
def test_a_name_is_read_as_the_server_reads_it(database: psycopg.Connection, name: str, parts: tuple[str, str]) -> None:
    """Letters without quotes are folded, and the schema of events is the default."""
    assert parse_table_name(name) == parts
    row = database.execute("SELECT parse_ident(%s)", [name]).fetchone()
    assert row is not None
    assert list(parts)[-len(row[0]) :] == row[0]


NOT_NAMES = ["", "a b", "a-b", "1a", '""', '"a', "a.b.c", ".a", "a.", 'a"b', '"a\0"', "a;drop table a"]


@pytest.mark.parametrize("name", NOT_NAMES)
def test_a_text_that_is_no_name_is_refused(name: str) -> None:
    """The message shows how to quote one."""
    with pytest.raises(Terminal, match=r'such as "my table"; nothing was read or written; correct the name'):
        parse_table_name(name)


def test_the_default_schema_is_that_of_events(configure: Callable[..., Settings]) -> None:
    """Also one whose name needs quotes."""
    configure(events_schema='My "own"')
    assert parse_table_name("weather") == ('My "own"', "weather")
    assert default_table_name() == '"My ""own"""."events"'


@pytest.mark.parametrize("name", ["plain", "Upper", 'with "quotes"', "100%", "%s", "a.b", "näme", "select", "x" * 63])
def test_a_table_with_any_name_is_read(shop: psycopg.Connection, name: str) -> None:
    """By the name that the ledger stores."""
    identifier = sql.Identifier("shop", name)
    shop.execute(sql.SQL("CREATE TABLE {} (a int PRIMARY KEY)").format(identifier))
    found = read_table(shop, identifier.as_string(None))
    assert (found.schema, found.name, found.keys) == ("shop", name, (("a",),))
    assert read_table(shop, found.regclass) == found


REFUSED = {
    "a view": ("CREATE VIEW shop.t AS SELECT 1 AS a", "expected a table, found a view; nothing was read or written"),
    "a materialized view": ("CREATE MATERIALIZED VIEW shop.t AS SELECT 1 AS a", "found a materialized view"),
    "a foreign table": (
        "CREATE FOREIGN DATA WRAPPER shop_fdw; CREATE SERVER shop_server FOREIGN DATA WRAPPER shop_fdw;"
        "CREATE FOREIGN TABLE shop.t (a int) SERVER shop_server",
        "found a foreign table",
    ),
    "a sequence": ("CREATE SEQUENCE shop.t", "found a sequence"),
    "a composite type": ("CREATE TYPE shop.t AS (a int)", "found a composite type"),
    "unlogged": (
        "CREATE UNLOGGED TABLE shop.t (a int)",
        'found an unlogged one; .*; ALTER TABLE "shop"."t" SET LOGGED',
    ),
    "none": (
        "",
        "expected a table in this database, found none; nothing .* correct its name in spillway.toml, or create",
    ),
}


@pytest.mark.parametrize(("statements", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_table_is_refused(shop: psycopg.Connection, statements: str, message: str) -> None:
    """The message names what it is."""
    try:
        shop.execute(statements.encode())
        with pytest.raises(Terminal, match=rf'^"shop"\."t": .*{message}'):
            read_table(shop, "shop.t")
    finally:
        shop.execute("DROP FOREIGN DATA WRAPPER IF EXISTS shop_fdw CASCADE")


@pytest.mark.hypertables
@pytest.mark.usefixtures("hypertables")
def test_a_chunk_is_refused_with_its_hypertable(shop: psycopg.Connection) -> None:
    """Rows belong into the hypertable, which chooses the chunk."""
    shop.execute(
        "CREATE TABLE shop.t (at date NOT NULL); SELECT create_hypertable('shop.t', 'at');"
        " INSERT INTO shop.t VALUES ('2024-01-01')"
    )
    row = shop.execute("SELECT c::text FROM show_chunks('shop.t') AS c").fetchone()
    assert row is not None
    with pytest.raises(Terminal, match=r"found a chunk of shop\.t; .*; name the hypertable instead"):
        read_table(shop, row[0])


def test_a_table_of_spillway_is_refused(database: psycopg.Connection) -> None:
    """Rows of a stream would break the ledger."""
    with pytest.raises(Terminal, match=r"expected a table of yours, found one of Spillway's own"):
        read_table(database, "spillway.ledger")


def test_row_security_is_refused_for_the_role_that_it_applies_to(shop: psycopg.Connection) -> None:
    """The owner sees all rows; another role may not."""
    shop.execute("CREATE TABLE shop.t (a int); ALTER TABLE shop.t ENABLE ROW LEVEL SECURITY; CREATE ROLE shop_clerk")
    try:
        read_table(shop, "shop.t")
        shop.execute("GRANT ALL ON SCHEMA shop TO shop_clerk; GRANT ALL ON shop.t TO shop_clerk; SET ROLE shop_clerk")
        with pytest.raises(Terminal, match=r'row security applies to the role shop_clerk, .* ALTER TABLE "shop"\."t"'):
            read_table(shop, "shop.t")
    finally:
        shop.execute("RESET ROLE; DROP OWNED BY shop_clerk; DROP ROLE shop_clerk")


NEAR = {
    "shop.wether": '"shop"."weather"',
    "weather": '"shop"."weather"',
    "shop.orders": '"shop"."Orders"',
    'shop."ORDERS"': '"shop"."Orders"',
}


@pytest.mark.parametrize(("name", "meant"), NEAR.items())
def test_a_missing_table_is_reported_with_those_that_may_be_meant(
    shop: psycopg.Connection, name: str, meant: str
) -> None:
    """A misspelled name, another schema, and a name that needs quotes."""
    shop.execute('CREATE TABLE shop.weather (a int); CREATE TABLE shop."Orders" (a int)')
    with pytest.raises(Terminal) as refused:
        read_table(shop, name)
    assert f"found none of this name; there is {meant}; nothing was read or written" in str(refused.value)


def test_the_default_table_is_created_by_the_schema(
    shop: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    """If it is missing, that is the next step."""
    configure(events_schema="shop")
    with pytest.raises(Terminal, match=r"apply the schema \(spillway schema\)$"):
        read_table(shop, "events")
    shop.execute("CREATE VIEW shop.events AS SELECT 1 AS a")
    with pytest.raises(Terminal, match=r"found a view; .*; rename it, then apply the schema \(spillway schema\)$"):
        read_table(shop, "events")
