"""Settings: `SPILLWAY_*` variables, then `.env`, then these defaults (the compose servers)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.errors.exceptions import WrongUse
from infra.urls import UnreadableUrl, read_database_url, read_redis_url

PROJECT_ROOT = Path(__file__).resolve().parent.parent
SCHEMA_SQL = PROJECT_ROOT / "infra" / "schema" / "schema.sql"

# The compose servers' credentials: for development, bound to 127.0.0.1, written in the open on purpose.
DATABASE, DATABASE_USER, DATABASE_PASSWORD = "analytics", "analytics_user", "analytics_pass"

MIB = 1024 * 1024


def settings_folder() -> Path:
    """The folder of `spillway.toml`, to which relative paths in settings refer.

    The clone, if Spillway runs from one: cron, a worker and a shell start in different folders. If Spillway is
    installed, the working directory, where `.env` is read too.
    """
    return PROJECT_ROOT if (PROJECT_ROOT / "pyproject.toml").is_file() else Path.cwd()


def _default_mappings() -> Path:
    return settings_folder() / "spillway.toml"


def _default_state_dir() -> Path:
    """Where the engine-less servers keep their data: root's servers run as other users, who cannot see /root."""
    if os.geteuid() == 0:
        return Path("/var/lib/spillway")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "spillway"


def _default_parallel_loads() -> int:
    """One for each core of ours; two at least, so that the server has one to do while the other is on its way."""
    return min(4, max(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def _duration(value: object) -> object:
    """`7d`, `36h`, `90m` or `30s`; empty is none. Anything else is refused."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    number, unit = value.strip()[:-1], value.strip()[-1]
    if not (number.isascii() and number.isdigit() and unit in _UNITS):
        raise PydanticCustomError("duration", "expected a number and a unit such as 7d, 36h, 90m or 30s")
    return timedelta(**{_UNITS[unit]: int(number)})


def _age(value: object) -> object:
    """The same, and more than nothing."""
    found = _duration(value)
    if found == timedelta(0):
        raise PydanticCustomError("age", "expected more than nothing, such as 7d, 36h, 90m or 30s")
    return found


_COLUMN = r"\s*\"?(time|event_id|event_type|user_id)\"?"
_ORDER = _COLUMN + r"(\s+(ASC|DESC))?(\s+NULLS\s+(FIRST|LAST))?"


def _columns(item: str, example: str) -> Callable[[object], object]:
    """A list of what the expression `item` says, with commas; or nothing."""
    pattern = re.compile(rf"({item}\s*(,{item}\s*)*)?\s*", re.IGNORECASE)

    def check(value: object) -> object:
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise PydanticCustomError("columns", f"expected columns of events such as {example}")
        return value

    return check


def _database_url(value: SecretStr) -> SecretStr:
    """Refuse a URL that cannot be read; empty is the local server."""
    try:
        if value.get_secret_value():
            read_database_url(value.get_secret_value())
    except UnreadableUrl as error:
        raise PydanticCustomError("url", "{fault}", {"fault": str(error)}) from None
    return value


def _beside_project(value: Path) -> Path:
    """A relative path is one in the project's folder: cron, a worker and a shell start in different ones."""
    return settings_folder() / value.expanduser()


def _place(value: str) -> str:
    """The same of a folder; a URL is as it is."""
    return value if not value or "://" in value else str(_beside_project(Path(value)))


_ENV_FILE = ".env"


class Settings(BaseSettings):
    """All that can be set. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix="SPILLWAY_",
        env_file=_ENV_FILE,
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # it may be a URL with a password
    )

    # Read where it is used: commands that need no Redis are not stopped by a URL of it.
    redis_url: SecretStr = Field(default=SecretStr(""), description="redis://, rediss:// or unix:// URL")
    database_url: Annotated[SecretStr, AfterValidator(_database_url)] = Field(
        default=SecretStr(""), description="postgresql:// URL, libpq options allowed"
    )
    redis_port: int = Field(default=6379, ge=1, le=65535, description="of the local server, where no URL is set")
    postgres_port: int = Field(default=5432, ge=1, le=65535, description="of the local server, where no URL is set")
    instance: str = Field(default="analytics", pattern=r"^[a-z][a-z0-9-]*$", description="name of the local servers")
    state_dir: Annotated[Path, AfterValidator(_beside_project)] = Field(
        default_factory=_default_state_dir, description="data of the engine-less servers"
    )

    events_schema: str = Field(
        default="public", min_length=1, max_length=63, pattern=r"^[^\x00]+$", description="schema of the events table"
    )
    mappings: Annotated[Path, AfterValidator(_beside_project)] = Field(
        default_factory=_default_mappings, description="how entries map onto the events table"
    )

    batch_rows: int = Field(default=50_000, ge=1, le=1_000_000, description="entries of one range, at most")
    batch_bytes: int = Field(default=8 * MIB, ge=1024, le=256 * MIB, description="bytes of one range, about")
    parallel_loads: int = Field(
        default_factory=_default_parallel_loads, ge=1, le=32, description="ranges copied at the same time"
    )

    connect_timeout: float = Field(default=10, gt=0, le=600)
    redis_timeout: float = Field(default=30, gt=0, le=3600, description="for one reply of Redis")
    statement_timeout: float = Field(default=300, gt=0, le=86400, description="for one statement, a COPY included")
    lock_timeout: float = Field(default=60, gt=0, le=86400, description="for a lock, another run's ledger row included")
    retries: int = Field(default=6, ge=0, le=100, description="of a step that failed for a passing reason")

    max_bad_share: float = Field(
        default=0.5, ge=0, le=1, description="of the entries of a range in quarantine, beyond which the drain fails"
    )
    trim_keep: Annotated[timedelta | None, BeforeValidator(_duration)] = Field(
        default=None, ge=timedelta(0), description="drained entries older than this are trimmed: 7d, 36h, 90m, 30s"
    )
    compress_after: Annotated[timedelta | None, BeforeValidator(_age)] = Field(
        default=timedelta(days=7), description="chunks older than this are compressed; empty: none are"
    )
    # By measurement on real events: see «Compression» in docs/design.md.
    compress_segmentby: Annotated[str, BeforeValidator(_columns(_COLUMN, "event_type, user_id"))] = Field(
        default="", description="columns of which each compressed batch has one value"
    )
    compress_orderby: Annotated[str, BeforeValidator(_columns(_ORDER, "user_id, time DESC"))] = Field(
        default="time DESC", description="the order within a compressed batch"
    )
    keep: Annotated[timedelta | None, BeforeValidator(_age)] = Field(
        default=None, description="chunks of which all is older than this are dropped; empty: none are"
    )
    retention: Literal["policy", "flow", "archive"] = Field(
        default="flow", description="who drops: the database's own job, the maintain flow, or it after an archive"
    )
    archive_url: Annotated[str, AfterValidator(_place)] = Field(
        default="", repr=False, description="folder, or URL of a file system, of the archive"
    )
    archive_after: Annotated[timedelta | None, BeforeValidator(_age)] = Field(
        default=None, description="chunks older than this are archived; empty: those that are to go"
    )
    max_new_chunks: int = Field(
        default=500, ge=0, description="of one run: a drain sets entries beyond them aside, a backfill asks first"
    )
    max_age_days: float = Field(default=365.25 * 30, gt=0, description="an older event time goes to quarantine")
    max_ahead_days: float = Field(default=2, ge=0, description="an event time further ahead goes to quarantine")

    @property
    def redis(self) -> str:
        """The URL to connect to, password included: never print it. Raises `WrongUse` for one that cannot be read."""
        url = self.redis_url.get_secret_value() or f"redis://127.0.0.1:{self.redis_port}/0"
        try:
            read_redis_url(url)
        except UnreadableUrl as error:
            raise WrongUse(f"settings: SPILLWAY_REDIS_URL: {error}; correct the variable or the line in .env") from None
        return url

    @property
    def database(self) -> str:
        """The URL to connect to, password included: never print it."""
        return self.database_url.get_secret_value() or (
            f"postgresql://{DATABASE_USER}:{DATABASE_PASSWORD}@127.0.0.1:{self.postgres_port}/{DATABASE}"
        )

    @property
    def external(self) -> bool:
        """Whether a URL is set, so that Spillway starts no server of its own."""
        return bool(self.redis_url.get_secret_value() or self.database_url.get_secret_value())


_OTHER_VARIABLES = {"SPILLWAY_DEBUG"}  # read where no setting can be: see `flows.cli.main`
_OF_TESTS = "SPILLWAY_TEST_"
_ENV_LINE = re.compile(r"^\s*(?:export\s+)?(\w+)\s*=", re.MULTILINE)


@cache
def settings() -> Settings:
    """The settings of this process, read once.

    Raises `WrongUse` with the variable at fault, also for one that does not exist: it may be misspelled.
    """
    faults = list(_unknown())
    try:
        found = Settings()
    except ValidationError as error:
        faults += [
            f"SPILLWAY_{'_'.join(str(part) for part in fault['loc']).upper()}: "
            + (fault["msg"][0].lower() + fault["msg"][1:])
            + (f", found {fault['input']!r}" if "url" not in str(fault["loc"]) else "")
            for fault in error.errors()
        ]
    if faults:
        raise WrongUse(f"settings: {'; '.join(faults)}; correct the variable or the line in .env")
    return found


def _unknown() -> Iterator[str]:
    """What is wrong with the names of variables: `SPILLWAY_…` is ours alone."""
    known = {f"SPILLWAY_{name.upper()}" for name in Settings.model_fields} | _OTHER_VARIABLES
    file = Path(_ENV_FILE)
    lines = file.read_text("utf-8", "replace") if file.is_file() else ""
    for name in sorted({*os.environ, *_ENV_LINE.findall(lines)}):
        variable = name.upper()
        if variable in known or not variable.startswith("SPILLWAY_") or variable.startswith(_OF_TESTS):
            continue
        near = get_close_matches(variable, known, 1, 0.8)
        yield f"{ascii(name)[1:-1]}: no such setting, " + (f"is {near[0]} meant?" if near else "see the README's list")


def host_of(url: str) -> str:
    """`host:port` of a server's URL, or the path of its socket, as errors name it; «the server» if it is not clear."""
    try:
        return read_redis_url(url).where if url.startswith(("redis", "unix:")) else read_database_url(url)
    except UnreadableUrl:
        return "the server"
