"""`spillway.toml`: how entries become rows, and how tables are maintained. Read and validated at start."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from infra.display import printable
from infra.errors.exceptions import WrongUse
from infra.mapping.stream_mapping import StreamMappings
from infra.mapping.table_options import TableSections
from infra.mapping.toml_names import section_table
from infra.mapping.toml_options import read_options
from infra.mapping.toml_stream import read_stream
from infra.mapping.toml_table import TomlTable, parse_float
from infra.settings import Settings, settings_folder


def configured_mappings(config: Settings) -> StreamMappings:
    """Load the mapping file of the settings. Raises as `load_mappings`, and if a file is named but missing."""
    if "mappings" in config.model_fields_set and not config.mappings.exists():
        raise WrongUse(
            f"SPILLWAY_MAPPINGS: expected a file, found nothing at {config.mappings} (relative paths start at"
            f" {settings_folder()}); nothing was read; correct the variable or its line in .env"
        )
    return load_mappings(config.mappings)


def explain_no_mapping(path: Path) -> str:
    """Why a stream has no mapping: a clause for a message."""
    return f"no table of {path} matches it" if path.exists() else f"{path} does not exist"


def load_mappings(path: Path) -> StreamMappings:
    """Read and validate the TOML file `path`. A missing file has no mappings.

    Raises `WrongUse` with the file and every faulty key, what was expected and what was found.
    """
    return _load(path)[0]


def load_table_sections(path: Path) -> TableSections:
    """The sections `[tables."name"]` of the TOML file `path`. Raises as `load_mappings`."""
    return _load(path)[1]


def _load(path: Path) -> tuple[StreamMappings, TableSections]:
    faults: list[str] = []
    file = TomlTable(_read(path), "", faults)
    file.refuse_unknown(("streams", "tables"))
    mappings = StreamMappings({name: read_stream(table, name) for name, table in file.tables("streams").items()})
    sections: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for name, table in file.tables("tables").items():
        options = read_options(table)
        if (found := section_table(table, name)) in sections:
            other = sections[found][0]
            faults.append(f'{table.location}: expected one section for a table, found also [tables."{other}"]')
        elif found is not None:
            sections[found] = (name, options)
    if faults:
        raise WrongUse(f"{path}: {printable('; '.join(faults))}; nothing was read; correct the file")
    return mappings, TableSections(sections)


def _read(path: Path) -> dict[str, Any]:
    """The values of a TOML file, none of a missing one. A float is its text."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=parse_float)
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUse(f"{path} is not valid TOML: {error}; nothing was read; fix that line") from None
    except OSError as error:
        raise WrongUse(
            f"{path} cannot be read: {error.strerror}; nothing was read; fix its permissions or SPILLWAY_MAPPINGS"
        ) from None
