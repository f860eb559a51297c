"""Generate schema.sql, which psql applies on its own: `make schema`, after a change below infra/schema/."""

from __future__ import annotations

from infra.schema.scripts import Script, scripts
from infra.settings import SCHEMA_SQL

_HEAD = """\
\\set ON_ERROR_STOP on
-- Spillway's tables. Safe to apply again and again:  psql -d analytics -f schema.sql
-- Generated from infra/schema/ by `make schema`: do not edit it. Each part is one transaction.
"""


def schema_sql() -> str:
    """The content of schema.sql."""
    return "\n".join([_HEAD, *map(_transaction, scripts())])


def _transaction(script: Script) -> str:
    title = f"version {script.version}: {script.name.replace('_', ' ')}" if script.version else script.name
    return f"-- {title} {'-' * (116 - len(title))}\n\nBEGIN;\n{script.statements}COMMIT;\n"


if __name__ == "__main__":
    SCHEMA_SQL.write_text(schema_sql(), encoding="utf-8")
