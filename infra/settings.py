"""Settings: `SPILLWAY_*` environment variables, then `.env`, then the defaults, which fit the servers of `spillway up`.

`.env` is read from the working directory. Nothing is read at import; `settings()` reads once per process.
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from infra import setting_values as values
from infra.errors.exceptions import WrongUse
from infra.prefect_blocks import is_reference, resolve
from infra.setting_files import SettingFiles, twice, variables_of
from infra.setting_names import unknown_variables
from infra.setting_values import LogFormat, columns_of, read_age, read_duration, read_names
from infra.url_settings import check_database_url, check_read_from, check_redis_url
from infra.urls import UnreadableUrl, read_database_url, read_redis_url

PROJECT_ROOT = Path(__file__).resolve().parent.parent
SCHEMA_SQL = PROJECT_ROOT / "infra" / "schema" / "schema.sql"

# The credentials of local servers, which listen on 127.0.0.1 only. They are for development and not secret.
DATABASE, DATABASE_USER, DATABASE_PASSWORD = "analytics", "analytics_user", "analytics_pass"

MIB = 1024 * 1024


def runs_from_clone() -> bool:
    """Whether Spillway runs from a clone. If not, it is installed from a wheel."""
    return (PROJECT_ROOT / "pyproject.toml").is_file()


def settings_folder() -> Path:
    """The folder of `spillway.toml`, to which relative paths in settings refer.

    The clone, if Spillway runs from one: cron, a worker and a shell start in different folders. If Spillway is
    installed, the working directory, where `.env` is read too.
    """
    return PROJECT_ROOT if runs_from_clone() else Path.cwd()


def _in_settings_folder(value: Path) -> Path:
    """A relative path as one below `settings_folder()`."""
    return settings_folder() / value.expanduser()


def read_folder_or_url(value: str) -> str:
    """A relative folder as one below `settings_folder()`; a URL unchanged."""
    return value if not value or "://" in value else str(_in_settings_folder(Path(value)))


_ENV_FILE = ".env"


class Settings(BaseSettings):
    """Every setting. Times are in seconds and sizes in bytes, unless the name or the description says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="SPILLWAY_",
        env_file=_ENV_FILE,
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # the input may be a URL with a password
    )

    # Validated at its first use, so that an invalid URL does not stop commands that need no Redis.
    redis_url: Annotated[SecretStr, AfterValidator(check_redis_url)] = Field(
        default=SecretStr(""),
        description="URL: redis://, rediss://, unix:// or redis+sentinel://; empty: the local Redis",
    )
    database_url: Annotated[SecretStr, AfterValidator(check_database_url)] = Field(
        default=SecretStr(""),
        description="URL: postgresql://, with libpq options; empty: the local database",
    )
    read_from: Annotated[SecretStr, AfterValidator(check_read_from)] = Field(
        default=SecretStr(""),
        description="where entries are read; empty: the primary; replica: one of a Cluster or of Sentinels; or its URL",
    )
    redis_port: int = Field(default=6379, ge=1, le=65535, description="port of the local Redis")
    postgres_port: int = Field(default=5432, ge=1, le=65535, description="port of the local database")
    instance: str = Field(default="analytics", pattern=r"^[a-z][a-z0-9-]*$", description="name of the local servers")
    state_dir: Annotated[Path, AfterValidator(_in_settings_folder)] = Field(
        default_factory=values.default_state_dir, description="data folder of local servers without Docker"
    )

    events_schema: str = Field(
        default="public", min_length=1, max_length=63, pattern=r"^[^\x00]+$", description="schema of the events table"
    )
    mappings: Annotated[Path, AfterValidator(_in_settings_folder)] = Field(
        default_factory=lambda: settings_folder() / "spillway.toml",
        description="file that maps fields of entries to columns of events",
    )

    batch_rows: int = Field(default=50_000, ge=1, le=1_000_000, description="maximum number of entries in one range")
    batch_bytes: int = Field(default=8 * MIB, ge=1024, le=256 * MIB, description="approximate size of one range")
    max_entry_bytes: int = Field(default=60 * MIB, ge=1024, le=256 * MIB, description="larger entries stay unread")
    parallel_loads: int = Field(
        default_factory=values.default_parallel_loads,
        ge=1,
        le=32,
        description="ranges copied at the same time, also by a redrive",
    )

    task_runner: str = Field(
        default="threads",
        pattern=r"^(threads|dask(\+(tcp|tls)://\S+)?|ray(://\S+)?)$",
        description="where Prefect runs the parts of a drain: threads, dask, dask+tcp://host:8786, ray, ray://host:10001",
    )
    drain_workers: int = Field(
        default=1, ge=1, le=256, description="scheduled drains at the same time; with Dask or Ray, parts of each drain"
    )

    connect_timeout: float = Field(default=10, gt=0, le=600, description="limit for connecting to a server")
    redis_timeout: float = Field(default=30, gt=0, le=3600, description="limit for one reply of Redis")
    statement_timeout: float = Field(default=300, gt=0, le=86400, description="limit for one statement or COPY")
    lock_timeout: float = Field(
        default=60, gt=0, le=86400, description="limit for waiting for a lock, including another run's ledger row"
    )
    retries: int = Field(default=6, ge=0, le=100, description="retries of a step after a transient error")

    max_bad_share: float = Field(
        default=0.5, ge=0, le=1, description="share of quarantined entries in a range above which the drain fails"
    )
    trim_keep: Annotated[timedelta | None, BeforeValidator(read_duration)] = Field(
        default=None,
        ge=timedelta(0),
        description="age at which drained entries are trimmed, such as 7d, 36h, 90m or 30s; empty: never",
    )
    compress_after: Annotated[timedelta | None, BeforeValidator(read_age)] = Field(
        default=timedelta(days=7), description="age at which chunks are compressed; empty: never"
    )
    # Chosen by measurements on real events: «Compression» in docs/benchmarks.md.
    compress_segmentby: Annotated[str, BeforeValidator(columns_of(values.COLUMN, "event_type, user_id"))] = Field(
        default="", description="columns by which compressed rows are grouped (segmentby)"
    )
    compress_orderby: Annotated[str, BeforeValidator(columns_of(values.ORDER, "user_id, time DESC"))] = Field(
        default="time DESC", description="order of rows in a compressed batch (orderby)"
    )
    keep: Annotated[timedelta | None, BeforeValidator(read_age)] = Field(
        default=None, description="age at which whole chunks are dropped; empty: never"
    )
    retention: Literal["policy", "flow", "archive"] = Field(
        default="flow",
        description="who drops chunks: a database job, the maintain flow, or that flow after archiving",
    )
    archive_url: Annotated[str, AfterValidator(read_folder_or_url)] = Field(
        default="", repr=False, description="folder of the archive, or URL of a file system"
    )
    archive_after: Annotated[timedelta | None, BeforeValidator(read_age)] = Field(
        default=None, description="age at which chunks are archived; empty: just before they are dropped"
    )
    max_new_chunks: int = Field(
        default=500,
        ge=0,
        description="chunks that a run may create; a drain quarantines the rest, a backfill asks",
    )
    scheduled_streams: Annotated[tuple[str, ...], NoDecode, BeforeValidator(read_names)] = Field(
        default=("events*",),
        min_length=1,
        description="streams that the schedule drains: comma-separated names and patterns",
    )
    scan_every: Annotated[timedelta | None, BeforeValidator(read_age)] = Field(
        default=timedelta(minutes=5),
        description="in a Redis with many keys, how long patterns use the names of the last scan; empty: always scan",
    )
    drain_every: Annotated[timedelta | None, BeforeValidator(read_age)] = Field(
        default=timedelta(seconds=60), description="interval of the scheduled drain; empty: it is not scheduled"
    )
    drain_time_limit: Annotated[timedelta | None, BeforeValidator(read_age)] = Field(
        default=None, description="when a scheduled drain reads no further batch; empty: three quarters of drain_every"
    )
    reconcile_cron: str = Field(
        default="30 4 * * *", description="times (UTC) of the scheduled reconcile; empty: it is not scheduled"
    )
    maintain_cron: str = Field(
        default="15 3 * * *", description="times (UTC) of the scheduled maintain; empty: it is not scheduled"
    )
    metrics_listen: Annotated[str, AfterValidator(values.check_listen)] = Field(
        default="", description="[ADDR:]PORT on which spillway serve exports metrics; empty: it does not"
    )
    metrics_streams: int = Field(
        default=100, ge=0, le=10_000, description="streams with metrics of their own; the others are one, (others)"
    )
    log_format: LogFormat = Field(
        default="text", description="form of log lines on standard error, also of Prefect's: text, or JSON, one a line"
    )
    max_age_days: float = Field(default=365.25 * 30, gt=0, description="age above which an event is quarantined")
    max_ahead_days: float = Field(default=2, ge=0, description="days ahead of now above which an event is quarantined")

    @property
    def redis(self) -> str:
        """The URL to connect to, with its password: never print it. Raises `WrongUse` for an invalid URL."""
        url = self._url("redis_url") or f"redis://127.0.0.1:{self.redis_port}/0"
        try:
            read_redis_url(url)
        except UnreadableUrl as error:
            raise WrongUse(f"settings: SPILLWAY_REDIS_URL: {error}; correct the variable or its line in .env") from None
        return url

    @property
    def database(self) -> str:
        """The URL to connect to, with its password: never print it."""
        return self._url("database_url") or (
            f"postgresql://{DATABASE_USER}:{DATABASE_PASSWORD}@127.0.0.1:{self.postgres_port}/{DATABASE}"
        )

    @property
    def replica(self) -> str:
        """Where entries are read: empty, `replica`, or a URL with its password."""
        return self._url("read_from")

    def _url(self, name: str) -> str:
        """The value of a setting, or the one in the block of Prefect that it names."""
        value: SecretStr = getattr(self, name)
        found, variable = value.get_secret_value(), f"SPILLWAY_{name.upper()}"
        if not is_reference(found):
            return found
        url = resolve(variable, found)
        try:
            (read_database_url if name == "database_url" else read_redis_url)(url)
        except UnreadableUrl as error:
            raise WrongUse(
                f"settings: {variable}: the block {found}: {error}; correct it in Prefect (Blocks)"
            ) from None
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, then `.env`; in each, a value or a file with it."""
        found = [
            (source, SettingFiles(settings_cls, variables_of(source))) for source in (env_settings, dotenv_settings)
        ]
        return (init_settings, *(source for pair in found for source in pair))

    @property
    def external(self) -> bool:
        """Whether a URL is set, so that Spillway starts no servers."""
        return bool(self.redis_url.get_secret_value() or self.database_url.get_secret_value())


@cache
def settings() -> Settings:
    """The settings of this process, read at the first call.

    Raises `WrongUse` that names every invalid variable, and unknown ones, which may be misspelled.
    """
    faults = [*unknown_variables(Settings.model_fields, Path(_ENV_FILE)), *twice(dict(os.environ))]
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
        raise WrongUse(f"settings: {'; '.join(faults)}; correct the variable or its line in .env")
    return found


def host_of(url: str) -> str:
    """`host:port` of a server's URL or the path of its socket, for messages; «the server» if the URL is invalid."""
    try:
        return read_redis_url(url).where if url.startswith(("redis", "unix:")) else read_database_url(url)
    except UnreadableUrl:
        return "the server"
