"""`spillway.toml`: which field of an entry fills which column of `events`. Read and validated at start."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from infra.errors.exceptions import WrongUse
from infra.mapping.mapping import Mapping, Mappings
from infra.mapping.sources import ColumnSource
from infra.mapping.stream_mapping import StreamMappings
from infra.mapping.table_options import TableSections
from infra.mapping.toml_names import section_table
from infra.mapping.toml_options import read_options
from infra.mapping.toml_stream import read_stream
from infra.mapping.toml_table import TomlTable, parse_float
from infra.settings import Settings, settings_folder

# No quotes, backslashes or control characters: msgspec does not accept them in the name of a key.
_Key = Annotated[str, Field(min_length=1, pattern=r'^[^"\\\x00-\x1f]*$')]


class _Column(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    key: _Key
    default: str | None = None

    @field_validator("key")
    @classmethod
    def _is_a_key_or_a_template(cls, key: str) -> str:
        try:
            _pieces(key)
        except ValueError:
            raise PydanticCustomError("template", "expected a key, or keys in braces such as {a}.{b}") from None
        return key

    def source(self) -> ColumnSource:
        return ColumnSource(_pieces(self.key), self.default)


def _pieces(template: str) -> tuple[str, ...]:
    """Split a template into literal text and keys, alternating. Raises `ValueError` for an invalid one."""
    if "{" not in template and "}" not in template:
        return ("", template, "")
    pieces: list[str] = []
    tail = ""
    for literal, name, spec, conversion in Formatter().parse(template):
        if name is None:
            tail += literal
            continue
        if not name or spec or conversion:
            raise ValueError(template)
        pieces += [tail + literal, name]
        tail = ""
    if not pieces:
        raise ValueError(template)
    return (*pieces, tail)


class _IdColumn(_Column):
    uuid5: bool = False


def _from_text(value: object) -> object:
    return {"key": value} if isinstance(value, str) else value


class _Stream(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    layout: Literal["json", "flat"]
    field: str = Field(default="data", min_length=1)
    time: Annotated[_Column, BeforeValidator(_from_text)]
    event_id: Annotated[_IdColumn, BeforeValidator(_from_text)]
    event_type: Annotated[_Column, BeforeValidator(_from_text)]
    user_id: Annotated[_Column, BeforeValidator(_from_text)]
    properties: _Key | None = None

    @field_validator("properties")
    @classmethod
    def _is_read_once(cls, key: str | None, info: ValidationInfo) -> str | None:
        """A document is parsed once, so a key gives either the text of a column or the JSON of `properties`."""
        columns = [column for column in info.data.values() if isinstance(column, _Column)]
        if info.data.get("layout") == "json" and any(key in column.source().keys for column in columns):
            raise PydanticCustomError("read_twice", "expected a key that no other column reads")
        return key

    def mapping(self, name: str) -> Mapping:
        return Mapping(
            layout=self.layout,
            field=self.field.encode(),
            time=self.time.source(),
            event_id=self.event_id.source(),
            event_type=self.event_type.source(),
            user_id=self.user_id.source(),
            properties=self.properties,
            uuid5=self.event_id.uuid5,
            name=name,
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    streams: dict[str, _Stream] = {}


def configured_mappings(config: Settings) -> Mappings:
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


def load_stream_mappings(path: Path) -> StreamMappings:
    """Read and validate the TOML file `path`. A missing file has no mappings.

    Raises `WrongUse` with the file and every faulty key, what was expected and what was found.
    """
    return _load(path)[0]


def load_table_sections(path: Path) -> TableSections:
    """The sections `[tables."name"]` of the TOML file `path`. Raises as `load_stream_mappings`."""
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
        raise WrongUse(f"{path}: {'; '.join(faults)}; nothing was read; correct the file")
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


def load_mappings(path: Path) -> Mappings:
    """Read and validate the TOML file `path`. A missing file has no mappings.

    Raises `WrongUse` with the file, every faulty key, what was expected and what was found.
    """
    raw = _read(path)
    try:
        streams = _File.model_validate(raw).streams
    except ValidationError as error:
        raise WrongUse(f"{path}: {_faults(error)}") from None
    return Mappings({name: stream.mapping(name) for name, stream in streams.items()})


def _faults(error: ValidationError) -> str:
    """List every fault, unknown keys first: a misspelled key often explains a missing one."""
    faults = []
    for fault in sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden"):
        key = ".".join(f'"{part}"' if depth == 1 else str(part) for depth, part in enumerate(fault["loc"]))
        if fault["type"] == "extra_forbidden":
            faults.append(f"{key}: unknown key, expected one of {', '.join(_known(fault['loc']))}")
        elif fault["type"] == "missing":
            faults.append(f"{key}: missing")
        elif fault["type"] in ("model_type", "dict_type"):
            expected = "a key or a table" if len(fault["loc"]) == 3 else "a table"
            faults.append(f"{key}: expected {expected}, found {fault['input']!r}")
        else:
            faults.append(f"{key}: {fault['msg'].lower()}, found {fault['input']!r}")
    return "; ".join(faults)


def _known(location: tuple[int | str, ...]) -> Iterable[str]:
    """The keys that are valid at `location`: `(streams, name, column, key)`, or the beginning of that."""
    if len(location) == 1:
        return _File.model_fields
    if len(location) < 4:
        return _Stream.model_fields
    return (_IdColumn if location[2] == "event_id" else _Column).model_fields
