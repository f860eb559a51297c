"""The version of a database's schema, and whether this program can work with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg

from infra.errors.exceptions import Terminal
from infra.schema.scripts import newest_version
from infra.settings import settings
from infra.tables.read_table import EVENTS, default_table_name

# By the catalog and not by `to_regclass`, which raises for a role without USAGE on the schema.
_TABLES = """
    SELECT coalesce(bool_or(n.nspname = 'spillway' AND c.relname = 'ledger'), false),
           coalesce(bool_or(n.nspname = 'spillway' AND c.relname = 'schema_version'), false),
           coalesce(bool_or(n.nspname = %s AND c.relname = %s), false)
      FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relname IN ('ledger', 'schema_version', %s)"""
_VERSION = "SELECT coalesce(max(version), 0) FROM spillway.schema_version"

needed_version = cache(newest_version)


@dataclass(frozen=True)
class InstalledSchema:
    """What a database has. `tables`: Spillway's own; `events`: the user's table; `version`: 0 for a release before
    schemas had a version."""

    tables: bool
    events: bool
    version: int


def installed_schema(connection: psycopg.Connection[Any]) -> InstalledSchema:
    """Read it, in one round trip or two. Raises `psycopg.Error`."""
    row = connection.execute(_TABLES, [settings().events_schema, EVENTS, EVENTS]).fetchone()
    assert row is not None  # an aggregate has one row
    tables, has_version, events = row
    version = connection.execute(_VERSION).fetchone() if has_version else None
    return InstalledSchema(tables, events, version[0] if version is not None else 0)


def schema_fault(found: InstalledSchema, needed: int) -> str | None:
    """Why a program that needs the version `needed` cannot work with the schema, with the next step; else None."""
    unchanged = "nothing was read or written"
    if not found.tables or not found.events:
        missing = f"no table {default_table_name()}" if found.tables else "no Spillway tables"
        return f"the database has {missing}; {unchanged}; run `spillway schema`"
    version = f"version {found.version}" if found.version else "none, as in earlier releases"
    if found.version < needed:
        return (
            f"the schema of the database is older than this release of Spillway: expected version {needed}, found"
            f" {version}; {unchanged}; run `spillway schema`"
        )
    if found.version > needed:
        return (
            f"the schema of the database is newer than this release of Spillway: expected version {needed}, found"
            f" {version}; {unchanged}; upgrade Spillway"
        )
    return None


def check_schema(connection: psycopg.Connection[Any]) -> None:
    """Raise `Terminal` unless the schema is installed and has the version of this program; `psycopg.Error`."""
    if fault := schema_fault(installed_schema(connection), needed_version()):
        raise Terminal(fault)
