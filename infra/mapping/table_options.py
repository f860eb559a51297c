"""What `[tables."name"]` of `spillway.toml` says about a table. The settings say what it does not."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from infra.settings import Settings
from infra.tables.table import Table

Retention = Literal["policy", "flow", "archive"]

# Option → setting, for the options that every table has a default for.
_SETTINGS = {
    "keep": "keep",
    "compress_after": "compress_after",
    "segmentby": "compress_segmentby",
    "orderby": "compress_orderby",
    "retention": "retention",
    "archive_url": "archive_url",
}
OPTIONS = tuple(_SETTINGS)


@dataclass(frozen=True)
class TableOptions:
    """How a table is maintained.

    `keep`: the age at which chunks are dropped; None for never. `compress_after`: the age at which chunks are
    compressed; None for never. `segmentby`, `orderby`: comma-separated columns; None means that nothing is said about
    them, which only tables other than `events` have. `retention`: who drops. `archive_url`: where archives are.
    `section`: the table of `spillway.toml`, such as `[tables."weather"]`; empty if there is none. `written`: the
    options that this section has. `configured`: the options that it or a variable sets, so that no built-in default
    overrules what the user has set in the database.
    """

    keep: timedelta | None
    compress_after: timedelta | None
    segmentby: str | None
    orderby: str | None
    retention: Retention
    archive_url: str
    section: str = ""
    written: Set[str] = frozenset()
    configured: Set[str] = frozenset()

    def source(self, option: str) -> str:
        """Where an option comes from, for messages: `SPILLWAY_KEEP`, or `keep of [tables."weather"]`."""
        if option in self.written:
            return f"{option} of {self.section}"
        return f"SPILLWAY_{_SETTINGS[option].upper()}"


def table_options(
    config: Settings, is_events: bool, written: Mapping[str, Any] | None = None, section: str = ""
) -> TableOptions:
    """The options of a table. `written`: the values of its section of `spillway.toml`, already validated.

    The columns of `SPILLWAY_COMPRESS_SEGMENTBY` and `SPILLWAY_COMPRESS_ORDERBY` are those of `events`, so they are no
    default for another table.
    """
    written = dict(written or {})
    values = {option: getattr(config, setting) for option, setting in _SETTINGS.items()}
    if not is_events:
        values |= {"segmentby": None, "orderby": None}
    variables = {option for option, setting in _SETTINGS.items() if setting in config.model_fields_set}
    return TableOptions(
        **{**values, **written},
        section=section,
        written=frozenset(written),
        configured=frozenset(variables | written.keys()),
    )


@dataclass(frozen=True)
class TableSections:
    """The sections `[tables."name"]` of one file: schema and name → name in the file and options."""

    sections: Mapping[tuple[str, str], tuple[str, Mapping[str, Any]]]

    def options(self, config: Settings, table: Table) -> TableOptions:
        """The options of a table: those of its section, else of the settings."""
        return self.options_of(config, table.schema, table.name)

    def options_of(self, config: Settings, schema: str, table: str) -> TableOptions:
        """`options`, by name: the table need not exist."""
        name, written = self.sections.get((schema, table), ("", {}))
        is_events = (schema, table) == (config.events_schema, "events")
        return table_options(config, is_events, written, f'[tables."{name}"]' if name else "")
