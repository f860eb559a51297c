"""Checks whether the role has the rights that a command needs, and reports all that are missing at once.

`NEEDS` is the only list of these rights: the check reads it, and `spillway grants` prints it. It was found by
experiment: tests revoke each right from a real role.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import sql

from infra.errors.exceptions import Terminal
from infra.tables.read_table import EVENTS, parse_table_name

OURS = "spillway"  # the schema of our own tables


@dataclass(frozen=True)
class RequiredPrivileges:
    """What a command needs. `tables`: privileges on tables of Spillway's schema, and on each table that rows are loaded
    into, as `EVENTS`.

    `temporary`: the right to create temporary tables. `owner`: membership in the role that owns these tables.
    """

    tables: Mapping[str, str]
    temporary: bool = False
    owner: bool = False


_LOAD = {
    "instance": "SELECT",
    "streams": "SELECT, INSERT, UPDATE",
    "ledger": "SELECT, INSERT, UPDATE, DELETE",
    "quarantine": "INSERT",
    EVENTS: "SELECT, INSERT",
}
_SUCCESS = {"successes": "SELECT, INSERT, UPDATE"}
_READ_TOTALS = {"streams": "SELECT", "ledger": "SELECT", "quarantine": "SELECT", "files": "SELECT"}
_TOTALS = {**_READ_TOTALS, **_SUCCESS}
_RECONCILE = {**_TOTALS, "redrives": "SELECT"}
_COMPARE = {**_RECONCILE, "drops": "SELECT", EVENTS: "SELECT"}
# By command, as it is typed. Without --record, `archive verify` goes on without the database.
NEEDS: Mapping[str, RequiredPrivileges] = {
    "drain": RequiredPrivileges(
        {
            **_LOAD,
            **_SUCCESS,
            "quarantine": "SELECT, INSERT",
            "found_streams": "SELECT, INSERT, UPDATE, DELETE",
            "load_hours": "SELECT, INSERT, UPDATE, DELETE",
        },
        temporary=True,
    ),
    "backfill": RequiredPrivileges({**_LOAD, "files": "SELECT, INSERT, UPDATE"}, temporary=True),
    "quarantine redrive": RequiredPrivileges(
        {
            "streams": "SELECT",
            "quarantine": "SELECT, UPDATE",
            "redrives": "INSERT",
            "files": "SELECT",
            EVENTS: "SELECT, INSERT",
        },
        temporary=True,
    ),
    "reconcile": RequiredPrivileges(_RECONCILE),
    "reconcile --deep": RequiredPrivileges(_COMPARE, temporary=True),
    "reconcile --deep --repair": RequiredPrivileges({**_COMPARE, EVENTS: "SELECT, INSERT"}, temporary=True),
    "maintain": RequiredPrivileges(
        {"ledger": "SELECT", "redrives": "SELECT", "drops": "SELECT, INSERT, UPDATE", **_SUCCESS, EVENTS: "SELECT"},
        owner=True,
    ),
    "archive verify --record": RequiredPrivileges({**_SUCCESS, "drops": "SELECT", "files": "SELECT"}),
    "metrics": RequiredPrivileges({**_READ_TOTALS, "load_hours": "SELECT", "successes": "SELECT"}),
    "report": RequiredPrivileges(
        {**_READ_TOTALS, "load_hours": "SELECT", "redrives": "SELECT", "drops": "SELECT", EVENTS: "SELECT"}
    ),
    "status": RequiredPrivileges(_READ_TOTALS),
}


@dataclass(frozen=True)
class Privilege:
    """A privilege on one object. For OWNER, `privilege` is the name of the owner, or empty if it is not known."""

    kind: Literal["DATABASE", "SCHEMA", "TABLE", "OWNER"]
    schema: str = ""
    name: str = ""
    privilege: str = ""


def rights(command: str, tables: Iterable[str] | None = None) -> list[Privilege]:
    """All rights that `command`, a key of `NEEDS`, needs. `tables`: the names of the tables that rows are loaded into,
    as `parse_table_name` reads them; only `events` if None."""
    needs = NEEDS[command]
    loaded = list(dict.fromkeys(parse_table_name(name) for name in ([EVENTS] if tables is None else tables)))
    privileges_of = {
        table: privileges.split(", ")
        for name, privileges in needs.tables.items()
        for table in (loaded if name == EVENTS else [(OURS, name)])
    }
    found = [Privilege("DATABASE", privilege="TEMPORARY")] if needs.temporary else []
    schemas = dict.fromkeys(schema for schema, _ in privileges_of)
    found += [Privilege("SCHEMA", schema, privilege="USAGE") for schema in schemas]
    found += [Privilege("TABLE", *table, right) for table, rights in privileges_of.items() for right in rights]
    return found + [Privilege("OWNER", *table) for table in loaded if needs.owner]


def statements(wanted: Iterable[Privilege], role: str, database: str) -> list[str]:
    """The GRANT statements for `role`, one per object, without semicolons."""
    privileges: dict[str, list[str]] = {}
    for right in wanted:
        if right.kind == "OWNER":
            privileges[_quoted(right.privilege)] = []
            continue
        names = {"DATABASE": [database], "SCHEMA": [right.schema], "TABLE": [right.schema, right.name]}[right.kind]
        kind = "" if right.kind == "TABLE" else f"{right.kind} "
        privileges.setdefault(kind + _quoted(*names), []).append(right.privilege)
    return [
        f"GRANT {', '.join(some)} ON {what} TO {_quoted(role)}" if some else f"GRANT {what} TO {_quoted(role)}"
        for what, some in privileges.items()
    ]


# Reads the catalog instead of using `regclass`: without USAGE on its schema a role cannot even name a table. A table
# that does not exist is reported by another check.
_MISSING = """
    SELECT w.number, pg_get_userbyid(c.relowner), current_user, current_database()
      FROM unnest(%(kinds)s::text[], %(schemas)s::text[], %(names)s::text[], %(privileges)s::text[])
           WITH ORDINALITY AS w (kind, schema, name, privilege, number)
      LEFT JOIN pg_namespace AS n ON n.nspname = w.schema
      LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
     WHERE NOT CASE w.kind WHEN 'DATABASE' THEN has_database_privilege(current_database(), w.privilege)
                           WHEN 'SCHEMA' THEN has_schema_privilege(n.oid, w.privilege)
                           WHEN 'TABLE' THEN has_table_privilege(c.oid, w.privilege)
                           ELSE pg_has_role(c.relowner, 'USAGE') END
     ORDER BY w.number"""


def check_rights(connection: psycopg.Connection, command: str, tables: Iterable[str] | None = None) -> None:
    """Raise `Terminal` with all rights that the role of `connection` lacks for `command`; `tables` as for `rights`.

    Raises `psycopg.Error`.
    """
    wanted = rights(command, tables)
    lists = {
        "kinds": [right.kind for right in wanted],
        "schemas": [right.schema for right in wanted],
        "names": [right.name for right in wanted],
        "privileges": [right.privilege for right in wanted],
    }
    rows = connection.execute(_MISSING, lists).fetchall()
    if not rows:
        return
    _, _, role, database = rows[0]
    missing = [wanted[number - 1] for number, *_ in rows]
    missing = [
        Privilege("OWNER", right.schema, right.name, owner) if right.kind == "OWNER" else right
        for right, (_, owner, *_) in zip(missing, rows, strict=True)
    ]
    raise Terminal(
        f"preflight: the role {role} lacks rights that `spillway {command}` needs; nothing was read or written; as the"
        f" owner of the tables run: {'; '.join(statements(missing, role, database))}; then try again"
    )


def _quoted(*names: str) -> str:
    return sql.Identifier(*names).as_string(None)
