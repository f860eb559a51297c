"""The SQL that creates a proposed table."""

from __future__ import annotations

from collections.abc import Callable

from packaging.version import Version
from psycopg import sql

from tasks.mapping.propose_table import ProposedTable

# The first version whose CREATE TABLE makes a hypertable.
_WITH_HYPERTABLE = Version("2.20")


def create_table(table: ProposedTable, schema: str, timescaledb: Version | None, quote: Callable[[str], str]) -> str:
    """The statements, without a trailing line break.

    `timescaledb`: the version of the extension; None without it. `quote`: gives a name as SQL writes it.
    """
    name = f"{quote(schema)}.{quote(table.name)}"
    lines = [
        (f"{quote(one.name)} {one.type.sql}{' NOT NULL' if one.required else ''}", one.type.note)
        for one in table.columns
    ]
    if table.key:
        lines.append((f"PRIMARY KEY ({', '.join(map(quote, table.key))})", ""))
    commas = [","] * (len(lines) - 1) + [""]
    body = "".join(
        f"    {line}{comma}{f'  -- {note}' if note else ''}\n"
        for (line, note), comma in zip(lines, commas, strict=True)
    )
    create = f"CREATE TABLE {name} (\n{body})"
    if table.time is None or timescaledb is None:
        return create + ";"
    if timescaledb < _WITH_HYPERTABLE:
        return f"{create};\nSELECT create_hypertable({_literal(name)}, by_range({_literal(table.time)}));"
    return f"{create} WITH (tsdb.hypertable, tsdb.partition_column = {_literal(table.time)});"


def _literal(text: str) -> str:
    return sql.Literal(text).as_string(None)
