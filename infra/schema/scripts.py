"""The SQL scripts of the schema, in the order in which they are applied. schema.sql is generated from them.

A migration in `migrations/` is never changed after its release. It is safe to repeat, also on every later version: all
are applied each time, so that a missing table is created again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib.resources import files

from psycopg import sql

from infra.versions import MIN_POSTGRES, MIN_TIMESCALEDB

_FOLDER = files("infra.schema")
_NAME = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True)
class Script:
    """`text`: SQL for one transaction, without BEGIN and COMMIT. `version`: of a migration; 0 for other scripts."""

    name: str
    text: str
    version: int = 0

    @property
    def statements(self) -> str:
        """The whole transaction without its BEGIN and COMMIT. Two sessions that apply the schema take turns."""
        found = (
            "SET LOCAL client_min_messages = warning;\n"
            "SET LOCAL search_path = pg_catalog;\n"
            "DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;\n\n"
            f"{self.text.strip()}\n"
        )
        if self.version:
            found += (
                f"\nINSERT INTO spillway.schema_version (version, name) VALUES ({self.version}, '{self.name}')\n"
                "    ON CONFLICT DO NOTHING;\n"
            )
        return found


def scripts(events: sql.Identifier | None = None) -> list[Script]:
    """All scripts in their order. `events`: the name of the events table with its schema; public.events if None."""
    found = [
        Script("preamble.sql", _fill_in((_FOLDER / "preamble.sql").read_text("utf-8"))),
        Script("events.sql", (_FOLDER / "events.sql").read_text("utf-8")),
    ]
    return [replace(script, text=_with_events(script.text, events)) for script in [*found, *migrations()]]


def migrations() -> list[Script]:
    """The numbered migrations: 1, 2, 3, … without a gap."""
    found = []
    for file in sorted((_FOLDER / "migrations").iterdir(), key=lambda file: file.name):
        if match := _NAME.fullmatch(file.name):
            found.append(Script(match[2], file.read_text("utf-8"), int(match[1])))
    assert [one.version for one in found] == list(range(1, len(found) + 1)), "each migration has the next number"
    return found


def newest_version() -> int:
    """The version of the schema that this program needs."""
    return len(migrations())


def _fill_in(text: str) -> str:
    values = {"MIN_POSTGRES": MIN_POSTGRES, "MIN_TIMESCALEDB": MIN_TIMESCALEDB, "VERSION": newest_version()}
    return re.sub(r"@(\w+)@", lambda found: str(values[found[1]]), text)


def _with_events(text: str, events: sql.Identifier | None) -> str:
    """`text` with another name for public.events, as an identifier and as a literal."""
    if events is None:
        return text
    name = events.as_string(None)
    return text.replace("'public.events'", sql.Literal(name).as_string(None)).replace("public.events", name)
