"""`spillway.toml`: which field of an entry fills which column of `events`. Read and validated at start."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from infra.errors.exceptions import WrongUse
from infra.settings import Settings, settings_folder


@dataclass(frozen=True)
class ColumnSource:
    """The source of one column: a key, or a template of keys and literal text.

    `pieces`: literal text and keys, alternating, such as `("", "source_id", ".", "relation_type_id", "")`.
    `default`: the text of an entry that lacks a key. `fallback`: the key to read if the only key is absent.
    """

    pieces: tuple[str, ...]
    default: str | None = None
    fallback: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that are read, in order, the fallback last."""
        return self.pieces[1::2] + ((self.fallback,) if self.fallback else ())

    @property
    def single_key(self) -> str | None:
        """The key whose value is the whole text of the column. None for a template."""
        return self.pieces[1] if len(self.pieces) == 3 and not self.pieces[0] and not self.pieces[2] else None

    @property
    def required(self) -> tuple[str, ...]:
        """The keys that an entry must have to become a row."""
        return () if self.default is not None or self.fallback else self.pieces[1::2]


@dataclass(frozen=True)
class Mapping:
    """How the entries of one stream become rows.

    `properties`: a key, or None for the whole document. `field`: the field that holds the document of a JSON layout.
    `uuid5`: derive an id from an event_id that is not a UUID.
    `extra_columns`: the user's own columns in an archive. Each is read from the field of the same name, or is null.
    """

    layout: Literal["json", "flat"]
    time: ColumnSource
    event_id: ColumnSource
    event_type: ColumnSource
    user_id: ColumnSource
    properties: str | None
    field: bytes = b"data"
    uuid5: bool = False
    extra_columns: tuple[str, ...] = ()
    name: str = ""  # the table in spillway.toml; empty for a built-in layout

    @property
    def sources(self) -> dict[str, ColumnSource]:
        """Column name → source, of the columns that every row must have."""
        return {
            "time": self.time,
            "event_id": self.event_id,
            "event_type": self.event_type,
            "user_id": self.user_id,
        }


def _key(name: str, fallback: str | None = None) -> ColumnSource:
    return ColumnSource(("", name, ""), fallback=fallback)


FLAT = Mapping(
    layout="flat",
    time=_key("time", fallback="timestamp"),
    event_id=_key("event_id"),
    event_type=_key("event_type"),
    user_id=_key("user_id"),
    properties="properties",
)
JSON = replace(FLAT, layout="json")


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


class Mappings:
    """The mappings of one file, by stream name or pattern."""

    def __init__(self, mappings: dict[str, Mapping]) -> None:
        self._mappings = mappings

    def for_stream(self, stream: str) -> Mapping | None:
        """The mapping of `stream`: that of its exact name, else of the first pattern that matches, else None."""
        if stream in self._mappings:
            return self._mappings[stream]
        return next((m for pattern, m in self._mappings.items() if fnmatchcase(stream, pattern)), None)


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


def load_mappings(path: Path) -> Mappings:
    """Read and validate the TOML file `path`. A missing file has no mappings.

    Raises `WrongUse` with the file, every faulty key, what was expected and what was found.
    """
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Mappings({})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUse(f"{path} is not valid TOML: {error}; nothing was read; fix that line") from None
    except OSError as error:
        raise WrongUse(
            f"{path} cannot be read: {error.strerror}; nothing was read; fix its permissions or SPILLWAY_MAPPINGS"
        ) from None
    try:
        streams = _File.model_validate(raw).streams
    except ValidationError as error:
        raise WrongUse(f"{path}: {_faults(error)}; nothing was read; correct the file") from None
    return Mappings({name: stream.mapping(name) for name, stream in streams.items()})


def _faults(error: ValidationError) -> str:
    """List every fault, unknown keys first: a misspelled key often explains a missing one."""
    faults = []
    for fault in sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden"):
        key = ".".join(f'"{part}"' if depth == 1 else str(part) for depth, part in enumerate(fault["loc"]))
        if fault["type"] == "extra_forbidden":
            faults.append(f"{key}: unknown key, expected one of {', '.join(_known(fault['loc']))}")
        elif fault["type"] == "missing":
            faults.append(f"{key}: expected a value, found none")
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
